#!/usr/bin/python3
"""picture.py LISTS.jsonl FOLDER - the pictures of docs/influence.md, out of what the demo measured.

LISTS is build/demo/lists.jsonl, which ask.py writes: of every prompt its proponents, opponents and
BM25's list, each example with its score and what one step of training on it does. Writes
influence-ranks.svg (what the examples of each rank do) and influence-scores.svg (each example's score
beside what it does), and prints the figures that the page quotes. Plain SVG for light and dark.
"""

import os
import statistics
import sys

import mix

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 350, 64, 62, 20, 46
HEAD = f"""<?xml version="1.0" encoding="utf-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<style>
svg {{ color: #24292f; font: 13px system-ui, -apple-system, "Segoe UI", sans-serif }}
text {{ fill: currentColor }} .paper {{ fill: #ffffff }} .grid {{ stroke: #e3e6ea }} .zero {{ stroke: currentColor }}
.proponents {{ color: #3b7dd8 }} .words {{ color: #d9822b }} .opponents {{ color: #9b6bd3 }}
@media (prefers-color-scheme: dark) {{
  svg {{ color: #d0d7de }} .paper {{ fill: #0d1117 }} .grid {{ stroke: #2b3138 }}
}}
</style>
<rect class="paper" width="100%" height="100%"/>
"""
NAMES = {"proponents": "TrackStar's proponents", "words": "BM25's", "opponents": "opponents"}


class Frame:
    """Axes: from numbers to places on the paper."""

    def __init__(self, title, across, up, x_label, y_label):
        self.x0, self.x1, self.y0, self.y1, self.out = *across, *up, [HEAD]
        self.text(LEFT, 20, title, weight=600)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, anchor="middle")
        self.text(LEFT - 44, TOP - 18, y_label)

    def x(self, value):
        return LEFT + (value - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)

    def text(self, x, y, text, anchor="start", weight=400, css=""):
        self.out.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
            f'{css and f" style={chr(34)}{css}{chr(34)}"}>{text}</text>\n'
        )

    def grid(self, ticks, places, label):
        for tick in ticks:
            y, kind = self.y(tick), "zero" if tick == 0 else "grid"
            self.out.append(
                f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>\n'
            )
            self.text(LEFT - 8, y + 4, label.format(tick) if tick else "0", anchor="end")
        for place, name in places:
            self.text(self.x(place), HEIGHT - BOTTOM + 18, name, anchor="middle")

    def key(self, names, marks):
        x = LEFT + 260
        for name in names:
            self.out.append(f'<g class="{name}"><circle cx="{x}" cy="40" r="4" fill="currentColor"/></g>\n')
            self.text(x + 9, 44, f"{NAMES[name]}{marks.get(name, '')}")
            x += 40 + 8 * len(NAMES[name] + marks.get(name, ""))

    def dots(self, name, points, size, opacity=1):
        self.out.append(f'<g class="{name}" fill="currentColor" fill-opacity="{opacity}">\n')
        for x, y in points:
            self.out.append(f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{size}"/>\n')
        self.out.append("</g>\n")

    def line(self, name, points):
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.out.append(
            f'<g class="{name}"><polyline points="{path}" fill="none" stroke="currentColor" '
            'stroke-width="2"/></g>\n'
        )

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            out.write("".join(self.out) + "</svg>\n")


def steps(low, high, count=6):
    """Round numbers from low to high."""
    for size in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20):
        first, last = int(low // size), int(-(-high // size))
        if last - first <= count:
            return [i * size for i in range(first, last + 1)]
    raise ValueError((low, high))


def by_rank(lists, name):
    """Of each rank the mean change of the target's probability, in points."""
    deepest = max(len(line[name]) for line in lists)
    at = [[100 * x[name][r]["d_probability"] for x in lists if r < len(x[name])] for r in range(deepest)]
    return [statistics.fmean(changes) for changes in at]


def draw_ranks(lists, path):
    means = {name: by_rank(lists, name) for name in NAMES}
    every = [m for ms in means.values() for m in ms]
    ticks = steps(min(every), max(every))
    frame = Frame(
        "What one step of training on the example of each rank does",
        (0.5, 10.5),
        (ticks[0], ticks[-1]),
        f"rank, mean over {len(lists)} prompts of the demo",
        "points of probability",
    )
    frame.grid(ticks, [(r, r) for r in range(1, 11)], "{:+g}")
    for name, ms in means.items():
        frame.line(name, list(enumerate(ms, 1)))
        frame.dots(name, enumerate(ms, 1), 3.5)
    frame.key(NAMES, {})
    frame.write(path)
    return means


def correlation(pairs):
    """Spearman's: of the ranks of both."""
    columns = []
    for column in zip(*pairs):
        order = sorted(range(len(column)), key=column.__getitem__)
        ranks = [0] * len(column)
        for rank, at in enumerate(order):
            ranks[at] = rank
        columns.append(ranks)
    return statistics.correlation(*columns)


def draw_scores(lists, path):
    points = {
        name: [(x["score"], x["d_log_probability"]) for line in lists for x in line[name]]
        for name in ("proponents", "opponents")
    }
    every = points["proponents"] + points["opponents"]
    across, up = (steps(*(f(p[i] for p in every) for f in (min, max))) for i in (0, 1))
    frame = Frame(
        "What the score said, and what one step really does",
        (across[0], across[-1]),
        (up[0], up[-1]),
        "influence score",
        "change of log-probability, nats",
    )
    frame.grid(up, [(x, f"{x:g}") for x in across], "{:+.3g}")
    for name, ps in points.items():
        frame.dots(name, ps, 2.5, 0.55)
    frame.key(points, {name: f", {len(ps)}" for name, ps in points.items()})
    frame.write(path)
    right = sum((x > 0) == (y > 0) for x, y in every) / len(every)
    return right, correlation(every), correlation(points["proponents"])


def main():
    lists_path, folder = sys.argv[1:]
    lists = mix.read_lines(lists_path)
    means = draw_ranks(lists, os.path.join(folder, "influence-ranks.svg"))
    right, both, within = draw_scores(lists, os.path.join(folder, "influence-scores.svg"))
    for name, ms in means.items():
        print(f"{name:11} first {ms[0]:+.2f}, mean of {len(ms)} {statistics.fmean(ms):+.2f} points")
    print(f"sign of the score is that of the change: {right:.1%}")
    print(f"rank correlation: all {both:.2f}, among proponents {within:.2f}")
    kinds = sorted({line["kind"] for line in lists})
    for kind in kinds:
        of = [line for line in lists if line["kind"] == kind]
        shared = statistics.fmean(
            len({x["id"] for x in l["proponents"]} & {x["id"] for x in l["words"]}) for l in of
        )
        print(f"{kind:12} {len(of)} prompts, {shared:.1f} of ten shared with BM25")


if __name__ == "__main__":
    main()
