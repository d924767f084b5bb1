"""picture.py - the plots of docs/performance.md as SVG, with nothing but strings: readable on a light
page and on a dark one, small enough to diff."""
import math
from xml.sax.saxutils import escape

# Told apart by people who see colours differently, and on both grounds; also by their order.
INKS = ["#0f8a5f", "#5b6ee1", "#d9822b", "#c2417c", "#7a7f87", "#2aa5b8", "#a08a2b", "#8a5bc9"]
STYLE = """<style>
text{font:13px system-ui,sans-serif;fill:#24292f}.small{font-size:11px;fill:#57606a}.head{font-size:14px;font-weight:600}
.axis{stroke:#8c959f;stroke-width:1}.grid{stroke:#8c959f;stroke-width:1;opacity:.25}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9da7b1}}
</style>"""


def number(x):
    """As people write it: 0.35, 4.2, 37, 1,300."""
    if x >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}".removesuffix(".0") if x >= 1 else f"{x:.2g}"


def short(x):
    return f"{x / 1000:g}k" if x >= 1000 and x % 100 == 0 else f"{x:g}"


def text(x, y, words, cls="", anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={chr(34)}{cls}{chr(34)}" if cls else ""} text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def svg(width, height, title, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
            f"<title>{escape(title)}</title>\n{STYLE}\n" + "\n".join(parts) + "\n</svg>\n")


def dots(title, unit, rows):
    """One value a line on a logarithmic axis. rows: [(label, value, note, ours)]."""
    left, right, step, top, width = 270, 150, 24, 48, 820
    room = width - left - right
    low, high = min(r[1] for r in rows) / 1.5, max(r[1] for r in rows) * 1.1
    bottom = top + len(rows) * step + 4
    place = lambda v: left + room * math.log(v / low) / math.log(high / low)
    parts = [text(12, 20, title, "head"), text(12, 36, unit, "small")]
    for t in ticks(low, high):
        parts += [f'<line class="grid" x1="{place(t):.1f}" x2="{place(t):.1f}" y1="{top}" y2="{bottom}"/>', text(place(t), bottom + 14, number(t), "small", "middle")]
    for n, (label, value, note, ours) in enumerate(rows):
        y, ink = top + n * step + 12, INKS[0] if ours else INKS[2]
        parts += [text(left - 10, y + 4, label, anchor="end"),
                  f'<circle cx="{place(value):.1f}" cy="{y}" r="6" fill="{ink}"/>',
                  text(place(value) + 12, y + 4, number(value) + (f"  ({note})" if note else ""), "small")]
    return svg(width, bottom + 22, title, parts)


def ticks(low, high):
    """Powers of ten, with 2 and 5 between where there is room."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    first = math.floor(math.log10(low))
    return [m * 10.0**e for e in range(first, math.ceil(math.log10(high)) + 1) for m in steps
            if low * .999 <= m * 10.0**e <= high * 1.001]


def panel(x0, y0, width, height, title, xname, series, names):
    """One log-log plot of {name: [(x, y)]}, at a place in a larger picture."""
    points = [p for s in series.values() for p in s]
    xs, ys = sorted({p[0] for p in points}), [p[1] for p in points]
    xlow, xhigh, ylow, yhigh = xs[0], xs[-1], min(ys) / 1.3, max(ys) * 1.3
    left, bottom, top = x0 + 44, y0 + height - 34, y0 + 26
    wide, tall = width - 72, bottom - top
    px = lambda v: left + wide * (math.log(v / xlow) / math.log(xhigh / xlow) if xhigh > xlow else .5)
    py = lambda v: bottom - tall * math.log(v / ylow) / math.log(yhigh / ylow)
    out = [text(x0 + 4, y0 + 14, title, "head")]
    for t in ticks(ylow, yhigh):
        out += [f'<line class="grid" x1="{left}" x2="{left + wide}" y1="{py(t):.1f}" y2="{py(t):.1f}"/>', text(left - 6, py(t) + 4, number(t), "small", "end")]
    out.append(f'<line class="axis" x1="{left}" x2="{left + wide}" y1="{bottom}" y2="{bottom}"/>')
    out += [text(px(x), bottom + 15, short(x), "small", "middle") for x in xs]
    out.append(text(left + wide / 2, bottom + 30, xname, "small", "middle"))
    for n, name in enumerate(names):
        if not series.get(name):
            continue
        at = sorted(series[name])
        out.append(f'<polyline fill="none" stroke="{INKS[n]}" stroke-width="2" points="' + " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in at) + '"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{INKS[n]}"/>' for x, y in at]
    return out


def panels(title, unit, plots, names, columns=2):
    """Several plots with one legend. plots: [(title, name of x, {name: [(x, y)]})]."""
    width, height, each = 820, 260, 820 / columns
    parts = [text(12, 20, title, "head"), text(12, 36, unit + ", both axes logarithmic", "small")]
    x = 12
    for n, name in enumerate(names):
        parts += [f'<rect x="{x}" y="46" width="14" height="4" fill="{INKS[n]}"/>', text(x + 20, 52, name, "small")]
        x += 34 + 7 * len(name)
    for n, (head, xname, series) in enumerate(plots):
        parts += panel(n % columns * each, 66 + n // columns * height, each, height - 6, head, xname, series, names)
    return svg(width, 66 + math.ceil(len(plots) / columns) * height, title, parts)
