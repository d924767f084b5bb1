"""plots.py - the pictures of docs/evaluation.md, drawn by gnuplot (package gnuplot-nox) as SVG. Every
picture has the paper and ink of tests/gnuplot.py. Whiskers are 95 % intervals.
"""
import math
import os
import sys

import categories
import facts
import methods

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from gnuplot import block, draw  # noqa: E402 (tests/ is on the path only now)

BLUE, ORANGE, GREEN, VIOLET, GREY = "#3b7dd8", "#d9822b", "#2f9e6e", "#9b6bd3", "#8a8f98"
KIND_COLOURS = {"states": BLUE, "fellow": GREEN, "object": ORANGE, "subject": VIOLET, "relation": "#c9b458",
                "other": GREY}

KEY = "set key outside center top horizontal maxcols 2"


def span(s, scale=1.0):
    return (s["mean"] * scale, s["low"] * scale, s["high"] * scale) if s else (None, None, None)


def percent(s):
    """A change of probability in percentage points."""
    return span(s, 100.0)


def escape(text):
    return text.replace("_", "\\\\_")


# --- the pictures ---

def methods_picture(out, path):
    names = ["gold", "bm25"] + [n for n, m in out["methods"].items() if m["moment"] and not m["own_task"] and
                                methods.in_grid(n)] + ["random"]
    rows = {ORANGE: [], GREY: [], GREEN: [], BLUE: []}
    for i, n in enumerate(reversed(names)):
        m = out["methods"][n]
        colour = BLUE if n == methods.TRACKSTAR else ORANGE if not m["moment"] else GREEN if m["unit"] else GREY
        rows[colour].append((i, *(span(m["mrr"]) if n != "gold" else (None,) * 3),
                             *percent(m["tail"]["1"]["probability"]),
                             *(percent(m["tail"]["10"]["probability"]) if n != "gold" else (None,) * 3)))
    tics = ", ".join(f'"{escape(out["methods"][n]["label"])}" {i}' for i, n in enumerate(reversed(names)))
    data = "".join(block(f"d{i}", r) for i, r in enumerate(rows.values()))
    def panel(at):
        return "plot " + ", ".join(
            f"$d{i} using {at}:1:{at + 1}:{at + 2} with xerrorbars pt 7 ps 0.55 lw 1.6 lc rgb '{c}' notitle"
            for i, c in enumerate(rows))
    def step(at):  # four tics or so
        ends = [x for some in rows.values() for r in some for x in r[at:at + 2] if x is not None]
        rough = (max(ends) - min(min(ends), 0)) / 4
        unit = 10 ** math.floor(math.log10(rough))
        return next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough)

    draw(path, 900, 60 + 24 * len(names), data + f"""
set multiplot layout 1,3
unset grid
set grid xtics lc rgb '#020202' lt 1
set yrange [-0.7:{len(names) - 0.3}]
set ytics ({tics})
set xrange [0:1]
set xtics 0.2
set lmargin at screen 0.24
set rmargin at screen 0.46
set title 'MRR'
{panel(2)}
set xrange [*:*]
unset ytics
set xtics {step(5)}
set arrow 1 from 0, graph 0 to 0, graph 1 nohead lc rgb '#010101' lw 0.8
set lmargin at screen 0.505
set rmargin at screen 0.73
set title 'tail-patch of the first, points'
{panel(5)}
set lmargin at screen 0.77
set rmargin at screen 0.98
set xtics {step(8)}
set title 'tail-patch of the first ten, points'
{panel(8)}
""")


def lambda_picture(out, path):
    m, rows = out["methods"], []
    for n, x in m.items():
        if n == "adam-train-cos":
            rows.append((0.0, x))
        elif x["moment"] == "adam" and x["unit"] and x["lambda"] is not None and not x["own_task"]:
            rows.append((x["lambda"], x))
    rows.sort(key=lambda r: r[0])
    places = [-math.log10(1 - share) for share, _ in rows]
    data = block("d", [(p, *span(x["mrr"]), *span(x["recall@10"]), *span(x["tail"]["10"]["log_probability"]))
                       for p, (_, x) in zip(places, rows)])
    rule = m[methods.TRACKSTAR]["lambda"]
    tics = ", ".join(f'"{share:g}" {-math.log10(1 - share):.4f}' for share, x in rows if share != rule)
    at = -math.log10(1 - rule)
    style = "with yerrorlines pt 7 ps 0.5 lw 1.6"
    draw(path, 820, 330, data + f"""
set multiplot layout 1,2
set xtics ({tics})
set xrange [-0.15:3.2]
set xlabel 'λ  (0: R\\_train alone)'
set arrow 1 from {at:.4f}, graph 0 to {at:.4f}, graph 1 nohead dt 2 lc rgb '#010101'
set label 1 'the rule: {rule:.3f}' at {at:.4f}, graph 0.05 offset 0.6,0 tc rgb '#010101'
set yrange [0:*]
{KEY}
set title 'attribution'
plot $d using 1:2:3:4 {style} lc rgb '{BLUE}' title 'MRR', $d using 1:5:6:7 {style} lc rgb '{ORANGE}' title 'Recall\\@10'
set title 'influence'
plot $d using 1:8:9:10 {style} lc rgb '{BLUE}' title 'tail-patch, log-probability'
""")


FOLLOWED = (("bm25", "BM25", ORANGE), ("adam-none-cos", "cosine + V", GREY),
            ("adam-train-cos", "+ R\\\\_train", GREEN), (methods.TRACKSTAR, "TrackStar", BLUE))


def frequency_picture(out, path):
    names = [b for b in facts.BUCKET_NAMES if f"bucket:{b}" in out["methods"]["bm25"]["groups"]]
    data, plots = "", ([], [])
    for i, (n, title, colour) in enumerate(FOLLOWED):
        rows = []
        for x, b in enumerate(names):
            g = out["methods"][n]["groups"][f"bucket:{b}"]
            rows.append((x + 0.09 * (i - 1.5), *span(g["mrr"]), *span(g["tail"]["log_probability"])))
        data += block(f"d{i}", rows)
        for at, some in ((2, plots[0]), (5, plots[1])):
            some.append(f"$d{i} using 1:{at}:{at + 1}:{at + 2} with yerrorlines pt 7 ps 0.5 lw 1.6 "
                        f"lc rgb '{colour}' title \"{title}\"")
    tics = ", ".join(f'"{b}" {x}' for x, b in enumerate(names))
    draw(path, 820, 340, data + f"""
set multiplot layout 1,2
set xtics ({tics})
set xrange [-0.4:{len(names) - 0.6}]
set xlabel "passages in which the object stands"
set yrange [0:*]
{KEY}
set title 'MRR'
plot {", ".join(plots[0])}
set yrange [*:*]
set title 'tail-patch, log-probability'
plot {", ".join(plots[1])}
""")


def steps_picture(out, path):
    followed = (("trackstar", "TrackStar", BLUE), ("bm25", "BM25", ORANGE), ("gold", "gold passages", VIOLET),
                ("random", "random", GREY))
    rows = [(s["step"], *span(s["mrr"]), *span(s["shared"]), s["accuracy"]["first"],
             *(x for n, _, _ in followed for x in percent(s["tail_" + n])),
             *(x for n, _, _ in followed for x in span(s["taillog_" + n]))) for s in out["steps"]]
    style = "with yerrorlines pt 7 ps 0.5 lw 1.6 lc rgb"

    def tails(first):
        return ", ".join(f"$d using 1:{first + 3 * i}:{first + 1 + 3 * i}:{first + 2 + 3 * i} {style} '{c}' title '{t}'"
                         for i, (_, t, c) in enumerate(followed))
    tics = ", ".join(f"{s['step']}" for s in out["steps"])
    draw(path, 900, 350, block("d", rows) + f"""
set multiplot layout 1,3
set logscale x 2
set xtics ({tics}) rotate by -35
set xlabel 'training step'
set yrange [0:*]
{KEY}
set title 'attribution'
plot $d using 1:2:3:4 {style} '{BLUE}' title 'MRR', \\
     $d using 1:5:6:7 {style} '{ORANGE}' title 'shared with BM25', \\
     $d using 1:8 with linespoints pt 6 ps 0.5 lw 1.4 dt 2 lc rgb '{GREY}' title 'facts at rank 1'
set yrange [*:*]
set title 'tail-patch, percentage points'
plot {tails(9)}
set title 'tail-patch, log-probability'
plot {tails(21)}
""")


def kinds_picture(out, path):
    names = [n for n in ("random", "none-none-dot", "adam-none-dot", "adam-none-cos", "adam-train-cos",
                         methods.TRACKSTAR, "bm25") if n in out["kinds"]]
    rows, left = [], {n: 0.0 for n in names}
    data, plots = "", []
    for i, c in enumerate(categories.NAMES):
        rows = []
        for y, n in enumerate(names):
            share = out["kinds"][n]["10"][c]
            rows.append((left[n], left[n] + share, y - 0.36, y + 0.36))
            left[n] += share
        data += block(f"d{i}", rows)
        plots.append(f"$d{i} using 1:3:1:2:3:4 with boxxyerror fs solid 0.9 noborder lc rgb "
                     f"'{KIND_COLOURS[c]}' title '{categories.SHORT[c]}'")
    tics = ", ".join(f'"{escape(out["methods"][n]["label"])}" {y}' for y, n in enumerate(names))
    draw(path, 820, 110 + 34 * len(names), data + f"""
unset grid
set ytics ({tics})
set yrange [-0.6:{len(names) - 0.4}]
set xrange [0:1]
set xtics 0.2
set lmargin at screen 0.18
set rmargin at screen 0.97
set tmargin at screen 0.80
set key at screen 0.55, screen 0.97 center top maxrows 2
plot {", ".join(plots)}
""")


PICTURES = {"methods.svg": methods_picture, "lambda.svg": lambda_picture, "frequency.svg": frequency_picture,
            "steps.svg": steps_picture, "kinds.svg": kinds_picture}


def write(out, folder):
    os.makedirs(folder, exist_ok=True)
    for name, picture in PICTURES.items():
        picture(out, os.path.join(folder, name))
