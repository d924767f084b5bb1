"""gnuplot.py - draws a picture by gnuplot (package gnuplot-nox) as an SVG that carries its own paper
and ink for light and for dark screens.
"""
import re
import subprocess

THEME = """<style>
svg { color: #24292f; font-family: system-ui, -apple-system, "Segoe UI", sans-serif }
.paper { fill: #ffffff } .gridline { stroke: #e3e6ea }
@media (prefers-color-scheme: dark) {
  svg { color: #d0d7de } .paper { fill: #0d1117 } .gridline { stroke: #2b3138 }
}
</style>
<rect class="paper" width="100%" height="100%"/>
"""

HEAD = """set encoding utf8
set border 3 lw 1 lc rgb '#010101'
set tics nomirror out scale 0.6 tc rgb '#010101'
set grid ytics lc rgb '#020202' lt 1 lw 1
set key tc rgb '#010101' samplen 1.2 spacing 1.15
set title tc rgb '#010101' font ',13'
set xlabel tc rgb '#010101'
set ylabel tc rgb '#010101'
set bars small
"""


def draw(path, width, height, script):
    """Runs gnuplot; '#010101' becomes the ink, '#020202' the grid."""
    term = f"set terminal svg size {width},{height} dynamic enhanced font 'sans-serif,12'\n"
    done = subprocess.run(["gnuplot", "-"], input=term + HEAD + script, capture_output=True, text=True,
                          check=False)
    if done.returncode or "error" in done.stderr.lower() or "<svg" not in done.stdout:
        raise RuntimeError(f"gnuplot, for {path}: {done.stderr.strip()}")
    svg = re.sub(r"<desc>.*?</desc>|<title>.*?</title>", "", done.stdout, flags=re.S)
    svg = re.sub(r"rgb\(\s*1,\s*1,\s*1\)", "currentColor", svg.replace("#010101", "currentColor"))
    svg = re.sub(r"stroke='rgb\(\s*2,\s*2,\s*2\)'", "", svg)  # left to .gridline
    svg = svg.replace("stroke='black'", "stroke='currentColor'").replace("'black'", "'currentColor'")
    svg = re.sub(r"fill\s*=\s*'rgb\(\s*0,\s*0,\s*0\)'", "fill='currentColor'", svg)
    svg = re.sub(r'font-family="[^"]*"', "", svg)
    head = svg.index(">", svg.index("<svg")) + 1
    with open(path, "w", encoding="utf-8") as out:
        out.write(svg[:head] + "\n" + THEME + svg[head:])


def block(name, rows):
    """An inline data block; text is quoted, None is a gap."""
    def cell(x):
        return "NaN" if x is None else f'"{x}"' if isinstance(x, str) else f"{x:.6g}"
    return f"${name} << EOD\n" + "".join(" ".join(map(cell, r)) + "\n" for r in rows) + "EOD\n"
