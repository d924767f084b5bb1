"""analyse.py - from lists and steps to figures: everything the report says, in one dictionary.

Figures of lists come from `ascribe eval`, the differences and what it does not compute from metrics.py;
where both have a figure they must agree, or the run fails.
"""
import collections
import json
import os
import platform

import numpy as np

import categories
import facts
import methods
import metrics
import patch

TRAJECTORY = ("trackstar", "bm25", "gold", "random")  # what is followed over training steps


def listed(run):
    """Every method with a list, in the order of the table."""
    return [methods.RANDOM, methods.BM25, *run.grid, *run.extra, methods.GOLD]


def patched_methods(run):
    return [m.name for m in listed(run)]


def agree(run, name, own):
    """`ascribe eval` and metrics.py over the same list."""
    said = run.lists.said(name)["overall"]
    for at, figure in enumerate(metrics.FIGURES):
        if abs(said[figure]["mean"] - own[:, at].mean()) > 1e-9:
            raise SystemExit(f"{name}: ascribe eval says {figure} {said[figure]['mean']}, "
                             f"metrics.py {own[:, at].mean()}")
    return said


class World:
    """What was read once: queries, lists, figures by query."""

    def __init__(self, run):
        self.run, self.queries = run, facts.read_lines(run.path("queries.jsonl"))
        self.boot = metrics.Bootstrap(len(self.queries))
        self.records = {m.name: run.lists.read(m.name) for m in listed(run)}
        self.figures = {n: metrics.of_lists(r) for n, r in self.records.items()}
        self.bucket = np.array([q["bucket"] for q in self.queries])
        self.relation = np.array([q["relation"] for q in self.queries])
        self.patched = patch.Patched(run.folder, "final")
        self.tails = {n: {k: self.patched.of(r, top=k) for k in patch.TOPS} for n, r in self.records.items()}
        self.tails[methods.OPPONENTS] = {
            k: self.patched.of(self.records[methods.TRACKSTAR], "opponents", k) for k in patch.TOPS}
        self.known = knowledge(run, None)["known"]

    def groups(self):
        """{name: boolean a query}: buckets, relations, what the model knows."""
        out = {f"bucket:{facts.BUCKET_NAMES[b]}": self.bucket == b for b in sorted(set(self.bucket))}
        out.update({f"relation:{r}": self.relation == r for r in facts.RELATIONS})
        out.update({"model:knows": self.known, "model:does not know": ~self.known})
        return {name: some for name, some in out.items() if some.any()}


def knowledge(run, step):
    """What `ascribe-lm score` says of a checkpoint, one array a figure."""
    rows = facts.read_lines(run.path(f"score-{step or 'final'}.jsonl"))
    rank = np.array([r["rank"] for r in rows])
    return {"rank": rank, "known": rank == 1, "greedy": np.array([bool(r["greedy"]) for r in rows]),
            "log_probability": np.array([r["log_probability"] for r in rows])}


def accuracy(world, step):
    """How well the facts are known, by relation and by frequency."""
    k = knowledge(world.run, step)
    groups = {"all": np.full(len(world.queries), True), **{
        n: g for n, g in world.groups().items() if not n.startswith("model:")}}
    for r in facts.RELATIONS:
        for b in sorted(set(world.bucket)):
            both = (world.relation == r) & (world.bucket == b)
            if both.any():
                groups[f"cell:{r}:{facts.BUCKET_NAMES[b]}"] = both
    return {name: {"n": int(g.sum()), "first": float(k["known"][g].mean()),
                   "within_5": float((k["rank"][g] <= 5).mean()),
                   "within_10": float((k["rank"][g] <= 10).mean()),
                   "greedy": float(k["greedy"][g].mean()), "median_rank": float(np.median(k["rank"][g])),
                   "probability": float(np.exp(k["log_probability"][g]).mean()),
                   "log_probability": float(k["log_probability"][g].mean())}
            for name, g in groups.items()}


def tail_spans(world, name, only=None):
    return {str(k): {"probability": world.boot.span(world.tails[name][k][:, 0], only),
                     "log_probability": world.boot.span(world.tails[name][k][:, 1], only)}
            for k in patch.TOPS}


def method_row(world, method):
    own = world.figures[method.name]
    row = {"label": method.label, "moment": method.moment, "hessian": method.hessian, "unit": method.unit,
           "own_task": method.own, "lambda": shares(world.run, method), "groups": {}}
    if method in (methods.RANDOM, methods.GOLD):
        row.update({f: world.boot.span(own[:, i]) for i, f in enumerate(metrics.FIGURES)})
    else:
        said = agree(world.run, method.name, own)
        row.update({f: dict(said[f], error=world.boot.span(own[:, i])["error"])
                    for i, f in enumerate(metrics.FIGURES)})
    row["tail"] = tail_spans(world, method.name)
    for group, some in world.groups().items():
        row["groups"][group] = {f: world.boot.span(own[:, i], some) for i, f in enumerate(metrics.FIGURES)}
        row["groups"][group]["tail"] = tail_spans(world, method.name, some)["10"]
    return row


def shares(run, method):
    """The lambda that a task of the method had, as the server says."""
    if method.hessian != "mixed":
        return None
    with open(run.path(f"task-{method.moment}-{methods.task_name(method)}.json"), encoding="utf-8") as f:
        return json.load(f)["result"]["lambda"]


def shared_top(a, b, top=10):
    """Mean number of passages in both lists' first `top`, over top, by query."""
    return np.array([len(set(x["proponent_ids"][:top]) & set(y["proponent_ids"][:top])) / top
                     for x, y in zip(a, b)])


def at_step(world, step):
    """The figures of one checkpoint; None: the final model, whose lists stand already."""
    run = world.run
    if step is None:
        star, patched = world.records[methods.TRACKSTAR], world.patched
    else:
        star, patched = run.lists.read(f"step{step}"), patch.Patched(run.folder, f"step{step}")
    lists = dict(zip(TRAJECTORY, (star, *(world.records[n] for n in TRAJECTORY[1:]))))
    own = metrics.of_lists(star)
    values = {"mrr": own[:, 0], "recall": own[:, 1], "shared": shared_top(star, world.records["bm25"])}
    values.update({f"tail_{n}": patched.of(r)[:, 0] for n, r in lists.items()})
    values.update({f"taillog_{n}": patched.of(r)[:, 1] for n, r in lists.items()})
    return values


def steps(world):
    """(rows for the report, {step: values by query})."""
    total, rows, by_step = final_step(world.run), [], {}
    for step in (*world.run.size.checkpoints, None):
        values = at_step(world, step)
        by_step[step] = values
        rows.append({"step": step or total, "accuracy": accuracy(world, step)["all"],
                     **{n: world.boot.span(v) for n, v in values.items()}})
    return rows, by_step


def final_step(run):
    return int(run.size.train[run.size.train.index("--steps") + 1])


def kinds(world):
    """{method: {category: share of the first ten}} and the same of the first alone."""
    judge = categories.Judge(facts.read_lines(world.run.path("corpus.jsonl")))
    judge.learn(facts.read_lines(world.run.path("facts.jsonl")))
    out = {}
    sides = [(n, r, "proponents") for n, r in world.records.items()]
    sides.append((methods.OPPONENTS, world.records[methods.TRACKSTAR], "opponents"))
    for name, records, side in sides:
        out[name] = {}
        for top in (1, 10):
            count = collections.Counter(judge.of(q, n) for q, r in zip(world.queries, records)
                                        for n in r[side[:-1] + "_ids"][:top])
            whole = sum(count.values())
            out[name][str(top)] = {c: count[c] / whole for c in categories.NAMES}
    return out


def kind_effects(world):
    """{category: mean change of probability by one step on such a passage}, over TrackStar's first ten."""
    judge = categories.Judge(facts.read_lines(world.run.path("corpus.jsonl")))
    judge.learn(facts.read_lines(world.run.path("facts.jsonl")))
    sums = collections.defaultdict(list)
    for i, (q, r) in enumerate(zip(world.queries, world.records[methods.TRACKSTAR])):
        for n in r["proponent_ids"][:10]:
            sums[judge.of(q, n)].append(world.patched.change[i][n][0])
    return {c: {"n": len(v), "mean": float(np.mean(v))} for c, v in sums.items()}


def spread(world):
    """How alike the lists of different facts are: the share of different passages among all first tens,
    the share of facts that the most frequent passage serves, and how long the passages are."""
    def of(ids, words):
        count = collections.Counter(n for some in ids for n in some)
        return {"different": len(count) / sum(count.values()), "commonest": max(count.values()) / len(ids),
                "words": float(np.mean(words))}
    return {n: of([r["proponent_ids"][:10] for r in records],
                  [len(t.split()) for r in records for t in r["proponents"][:10]])
            for n, records in world.records.items()}


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        model = next((l.split(":")[1].strip() for l in f if l.startswith("model name")), platform.machine())
    with open("/proc/meminfo", encoding="utf-8") as f:
        kib = int(next(f).split()[1])
    return {"processor": model, "cores": os.cpu_count(), "memory_GiB": round(kib / 2**20)}


def results(run):
    import claims
    world = World(run)
    with open(run.path("counts.json"), encoding="utf-8") as f:
        counts = json.load(f)
    rows, by_step = steps(world)
    out = {"size": run.size.name, "machine": machine(), "stages": run.stages.times(), "counts": counts,
           "train": list(map(str, run.size.train)), "dim": run.size.dim, "queries": len(world.queries),
           "resamples": metrics.RESAMPLES,
           "patch": {"probability": float(world.patched.probability.mean()),
                     "pairs": sum(map(len, world.patched.change))},
           "accuracy": accuracy(world, None),
           "methods": {m.name: method_row(world, m) for m in listed(run)},
           "opponents": tail_spans(world, methods.OPPONENTS),
           "kinds": kinds(world), "kind_effects": kind_effects(world), "spread": spread(world),
           "steps": rows}
    out["claims"] = claims.of_paper(world, by_step)
    out["orderings"] = claims.orderings(world)
    return out
