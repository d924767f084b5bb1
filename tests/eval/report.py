"""report.py - results.json as text: the tables between the markers of docs/evaluation.md, the summary of
a run, the checks of the quick one. Figures come from the dictionary alone; prose stands in the page.
"""
import os
import re

import categories
import facts
import methods
import plots


def value(s, digits=3):
    return "–" if s is None else f"{s['mean']:.{digits}f}"


def interval(s, digits=3, scale=1.0):
    """mean [low, high]"""
    if s is None:
        return "–"
    return f"{s['mean'] * scale:.{digits}f} [{s['low'] * scale:.{digits}f}, {s['high'] * scale:.{digits}f}]"


def points(s):
    """A change of probability, in percentage points with its sign."""
    if s is None:
        return "–"
    return f"{s['mean'] * 100:+.2f} [{s['low'] * 100:+.2f}, {s['high'] * 100:+.2f}]"


def signed(s, digits=3):
    return f"{s['mean']:+.{digits}f} [{s['low']:+.{digits}f}, {s['high']:+.{digits}f}]"


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |",
                      *("| " + " | ".join(map(str, r)) + " |" for r in rows)])


def tick(good):
    return "yes" if good else ""


def methods_table(out):
    rows = []
    for n, m in out["methods"].items():
        if m["own_task"] or (m["moment"] and not methods.in_grid(n)):
            continue
        star = "**" if n == methods.TRACKSTAR else ""
        gold = n == methods.GOLD.name
        rows.append([f"{star}{m['label']}{star}", tick(m["moment"] not in ("", "none")),
                     methods.HESSIANS.get(m["hessian"], ""), tick(m["moment"] and m["unit"]),
                     "–" if gold else interval(m["mrr"]), "–" if gold else interval(m["recall@10"]),
                     points(m["tail"]["1"]["probability"]), points(m["tail"]["10"]["probability"]),
                     signed(m["tail"]["10"]["log_probability"])])
    s = out["opponents"]
    rows.append(["TrackStar's opponents", "yes", "mixed R", "yes", "–", "–", points(s["1"]["probability"]),
                 points(s["10"]["probability"]), signed(s["10"]["log_probability"])])
    return table(["method", "V", "R", "unit", "MRR", "Recall@10", "tail-patch of the first", "of the first ten",
                  "of the ten, log-probability"], rows)


def tops_table(out):
    rows = [[m["label"], *(points(m["tail"][str(k)]["probability"]) for k in (1, 3, 5, 10))]
            for n, m in out["methods"].items()
            if not m["own_task"] and (not m["moment"] or (m["unit"] and n.endswith("-cos")))]
    return table(["method", "k = 1", "3", "5", "10"], rows)


def lambda_table(out):
    rows = []
    for n, m in out["methods"].items():
        if n == "adam-train-cos" or (m["moment"] == "adam" and m["unit"] and m["hessian"] == "mixed"):
            rule = n == methods.TRACKSTAR or n == "adam-own-rule"
            share = "0 (R_train)" if m["lambda"] is None else f"{m['lambda']:.3f}" + (", the rule" if rule else "")
            task = "" if m["lambda"] is None else "the queries' own" if m["own_task"] else "other facts"
            rows.append((m["own_task"], m["lambda"] or 0, [share, task, interval(m["mrr"]),
                         interval(m["recall@10"]), points(m["tail"]["10"]["probability"])]))
    return table(["lambda", "R_eval of", "MRR", "Recall@10", "tail-patch, points"],
                 [r[2] for r in sorted(rows, key=lambda r: r[:2])])


def groups_table(out, prefix, head):
    names = ["bm25", "adam-none-cos", "adam-train-cos", methods.TRACKSTAR]
    rows = []
    for g in out["methods"]["bm25"]["groups"]:
        if not g.startswith(prefix):
            continue
        some = [out["methods"][n]["groups"][g] for n in names]
        rows.append([g[len(prefix):].replace("_", " "), some[0]["mrr"]["n"], *(interval(x["mrr"], 2) for x in some),
                     points(some[0]["tail"]["probability"]), points(some[3]["tail"]["probability"])])
    return table([head, "facts", "MRR: BM25", "cosine + V", "+ R_train", "TrackStar", "tail-patch: BM25",
                  "TrackStar"], rows)


def accuracy_table(out):
    rows = []
    for name, a in out["accuracy"].items():
        if name.startswith("cell:"):
            _, relation, bucket = name.split(":")
        elif name == "all":
            relation, bucket = "all", ""
        else:
            continue
        n = next((c["facts"] for c in out["counts"]["cells"]
                  if (c["relation"], c["name"]) == (relation, bucket)), "")
        rows.append([relation, bucket, n, a["n"], f"{a['first'] * 100:.0f} %", f"{a['within_5'] * 100:.0f} %",
                     f"{a['greedy'] * 100:.0f} %", f"{a['median_rank']:.0f}", f"{a['probability']:.3f}"])
    return table(["relation", "object stands in", "facts", "asked", "rank 1", "rank ≤ 5", "greedy", "median rank",
                  "mean probability"], rows)


def steps_table(out):
    rows = [[s["step"], f"{s['accuracy']['first'] * 100:.0f} %", f"{s['accuracy']['within_5'] * 100:.0f} %",
             interval(s["mrr"]), interval(s["recall"], 2), interval(s["shared"], 2), points(s["tail_trackstar"]),
             points(s["tail_bm25"]), points(s["tail_gold"])] for s in out["steps"]]
    return table(["step", "rank 1", "rank ≤ 5", "TrackStar MRR", "Recall@10", "shared with BM25",
                  "tail-patch: TrackStar", "BM25", "gold"], rows)


def kinds_table(out):
    names = [n for n in ("random", "none-none-dot", "adam-none-dot", "adam-none-cos", "adam-train-cos",
                         methods.TRACKSTAR, methods.OPPONENTS, "bm25") if n in out["kinds"]]
    label = {n: m["label"] for n, m in out["methods"].items()}
    label[methods.OPPONENTS] = "TrackStar's opponents"
    rows = [[label[n], *(f"{out['kinds'][n]['10'][c] * 100:.1f} %" for c in categories.NAMES)] for n in names]
    effects = ["*one step on such a passage, points*",
               *(f"{e['mean'] * 100:+.2f} ({e['n']:,})" if (e := out["kind_effects"].get(c)) else "–"
                 for c in categories.NAMES)]
    return table(["first ten of", *categories.LABELS.values()], rows + [effects])


def spread_table(out):
    rows = [[out["methods"][n]["label"], f"{x['different'] * 100:.1f} %", f"{x['commonest'] * 100:.1f} %",
             f"{x['words']:.1f}"] for n, x in out["spread"].items()
            if n in ("random", "bm25") or methods.in_grid(n)]
    return table(["first ten of", "different passages", "the commonest serves, of the facts", "words a passage"], rows)


def claims_table(out):
    rows = []
    for c in out["claims"]:
        d = points(c["difference"]) if c["figure"].startswith("tail-patch") else signed(c["difference"])
        rows.append([c["text"], c["figure"], d, c["verdict"]])
    return table(["statement", "figure", "difference", "here"], rows)


def counts_table(out):
    c = out["counts"]
    return table(["", *facts.RELATIONS], [
        ["pointers of the instance synsets", *(f"{c[r]['pointers']:,}" for r in facts.RELATIONS)],
        ["of them, object in the gloss",
         *(f"{c[r]['pointers'] - c[r]['object_not_in_gloss']:,}" for r in facts.RELATIONS)],
        ["facts to draw from", *(f"{c[r]['facts']:,}" for r in facts.RELATIONS)],
        ["different objects", *(f"{c[r]['objects']:,}" for r in facts.RELATIONS)]])


def run_table(out):
    def clock(seconds):
        return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    rows = [[name, clock(s["seconds"]), clock(s["processor"])] for name, s in out["stages"].items()]
    total = []
    for what in ("seconds", "processor"):
        some = [s[what] for s in out["stages"].values()]
        total.append("" if None in some else clock(sum(some)))
    return table(["stage", "min:s", "of a processor"], rows + [["**all**", *total]])


def facts_line(out):
    m, c = out["machine"], out["counts"]
    return (f"{out['queries']} facts asked of {c['passages']:,} passages ({c['instances']:,} instances), "
            f"{c['gold_mean']:.1f} gold passages a fact; d = {out['dim']:,}; intervals of {out['resamples']:,} "
            f"resamples; {out['patch']['pairs']:,} single training steps; {m['cores']} cores ({m['processor']}), "
            f"{m['memory_GiB']} GiB.")


TABLES = {"facts": facts_line, "counts": counts_table, "accuracy": accuracy_table, "claims": claims_table,
          "methods": methods_table, "tops": tops_table, "lambda": lambda_table,
          "frequency": lambda o: groups_table(o, "bucket:", "object stands in"),
          "relation": lambda o: groups_table(o, "relation:", "relation"),
          "known": lambda o: groups_table(o, "model:", "the model"),
          "spread": spread_table, "steps": steps_table, "kinds": kinds_table, "stages": run_table}


def write(out, docs):
    """Brings the tables of docs/evaluation.md and its pictures up to date. The exit code."""
    plots.write(out, os.path.join(docs, "evaluation"))
    page = os.path.join(docs, "evaluation.md")
    with open(page, encoding="utf-8") as f:
        text = f.read()
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text, n = re.subn(re.escape(begin) + ".*?" + re.escape(end),
                          lambda _, b=begin, e=end, t=make(out): f"{b}\n{t}\n{e}", text, flags=re.S)
        if n != 1:
            raise SystemExit(f"{page}: {begin} stands {n} times")
    with open(page + ".part", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(page + ".part", page)
    return 0


def summary(out):
    """What a run prints."""
    lines = [facts_line(out), f"the model ranks the object first for {out['accuracy']['all']['first']:.0%} of the "
             f"facts, among the first five for {out['accuracy']['all']['within_5']:.0%}", "",
             f"{'':24} {'MRR':22} {'Recall@10':22} tail-patch of 10, points"]
    for m in out["methods"].values():
        lines.append(f"{m['label']:24} {interval(m['mrr']):22} {interval(m['recall@10']):22} "
                     f"{points(m['tail']['10']['probability'])}")
    return "\n".join(lines)


def checks(orderings):
    lines = ["", f"{'ordering':44} {'figure':10} {'difference':26} standard errors"]
    for c in orderings:
        d = points(c["difference"]) if c["figure"].startswith("tail-patch") else signed(c["difference"])
        lines.append(f"{c['text']:44} {c['figure']:10} {d:26} {c['errors']:6.1f}  "
                     f"{'PASS' if c['good'] else 'FAIL'}")
    return "\n".join(lines)
