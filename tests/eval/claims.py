"""claims.py - statements that can fail. of_paper: what the paper found, each as a difference with its
interval, resampled in pairs. orderings: what must hold in any run, checked by the quick one.
"""
import methods
import metrics

FAR = 2.0  # standard errors; in trials with other seeds each ordering had at least twice as many


FIGURE = {0: "MRR", 1: "Recall@10", "first": "tail-patch of the first", "tail": "tail-patch", "log": "log-probability"}


def values(world, name, what):
    """One number a query."""
    if what == "first":
        return world.tails[name][1][:, 0]
    if what in ("tail", "log"):
        return world.tails[name][10][:, 0 if what == "tail" else 1]
    return world.figures[name][:, what]


def compare(world, text, a, b, what, group):
    """The statement "a is above b" in one figure: 0 MRR, 1 Recall@10, "first", "tail" or "log"."""
    left, right = values(world, a, what), values(world, b, what)
    span = world.boot.difference(left, right)
    return {"group": group, "text": text, "figure": FIGURE[what],
            "a": a, "b": b, "difference": span, "verdict": metrics.verdict(span)}


def best(world, names, what):
    """The method with the highest mean."""
    return max(names, key=lambda name: values(world, name, what).mean())


def of_paper(world, by_step):
    grid = {m.name: m for m in world.run.grid}
    out = []

    def add(*args):
        out.append(compare(world, *args))

    for what in (0, 1):
        add("BM25 above the best gradient method", "bm25", best(world, grid, what), what, "words")
    others = [n for n in grid if n != methods.TRACKSTAR]
    for other in ("bm25", "gold", "random", best(world, others, "tail")):
        label = grid[other].label if other in grid else other
        text = f"TrackStar above the best other gradient method ({label})" if other in grid else \
            f"TrackStar above {label.replace('bm25', 'BM25').replace('gold', 'the gold passages')}"
        for what in ("first", "tail", "log"):
            add(text, methods.TRACKSTAR, other, what, "tail-patch")
    for m in grid.values():
        if m.unit:
            dot = m.name.replace("-cos", "-dot")
            for what in (0, "tail", "log"):
                add(f"{m.label} above the same not normalised", m.name, dot, what, "normalisation")
    for moment in world.run.size.moments:
        for what in (0, 1, "tail", "log"):
            v = "with V" if moment != "none" else "without V"
            add(f"mixed R above R_train alone, {v}", f"{moment}-mixed-cos", f"{moment}-train-cos", what, "hessian")
    for hessian in methods.HESSIANS:
        if f"none-{hessian}-cos" in grid:
            for what in (0, "log"):
                add(f"V above no V, {methods.HESSIANS[hessian] or 'no R'}", f"adam-{hessian}-cos",
                    f"none-{hessian}-cos", what, "second moment")
    for other in ("adam-train-cos", "none-train-cos"):
        if other in grid:
            add(f"TrackStar above {grid[other].label}", methods.TRACKSTAR, other, 0, "hessian")
    first = world.run.size.checkpoints[:1]
    for figure, name in (("mrr", "MRR"), ("recall", "Recall@10"), ("shared", "shared with BM25"),
                         ("tail_trackstar", "tail-patch"), ("taillog_trackstar", "log-probability")):
        for step in first:
            span = world.boot.difference(by_step[None][figure], by_step[step][figure])
            out.append({"group": "training", "text": f"TrackStar at the end above TrackStar at step {step}",
                        "figure": name, "difference": span, "verdict": metrics.verdict(span)})
    return out


# (a, b, figure): a above b, by more than FAR standard errors of the paired difference.
ORDERINGS = (
    ("bm25", "random", 0), ("adam-none-cos", "random", 0), ("bm25", methods.TRACKSTAR, 0),
    (methods.TRACKSTAR, "adam-none-cos", 0),
    (methods.TRACKSTAR, "none-none-dot", 0), (methods.TRACKSTAR, "none-none-dot", "log"),
    (methods.TRACKSTAR, "random", "log"), (methods.TRACKSTAR, methods.OPPONENTS, "log"),
)


def orderings(world):
    out = []
    for a, b, what in ORDERINGS:
        c = compare(world, f"{a} above {b}", a, b, what, "ordering")
        c["errors"] = c["difference"]["mean"] / max(c["difference"]["error"], 1e-12)
        c["good"] = c["errors"] > FAR
        out.append(c)
    return out
