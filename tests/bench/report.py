#!/usr/bin/python3
"""report.py [--without RUN,...] [RESULTS] - docs/performance.md's tables, between its markers, and its
pictures, from the lines that `make bench` and `make bench-large` kept. Of each section and size the latest run
counts; a section that was never run leaves its table saying so. --without leaves out runs, named by
their time, that were disturbed or cut short. Nothing here is written by hand but the words.
"""
import argparse
import json
import os
import re
import sys

import goals
import picture
from book import RESULTS, h

PAGE = os.path.join(h.ROOT, "docs/performance.md")
PICTURES = os.path.join(h.ROOT, "docs/pictures")
SIZES = ("standard", "large")
CURVES = {"N": "rows, of 4,096 dimensions", "d": "dimensions, of 20,000 rows (10,000 from 32,768 on)",
          "k": "k, 20,000 x 8,192", "batch": "queries in a batch, 20,000 x 8,192"}
LINES = ("ascribe probabilistic", "ascribe certified", "ascribe scan", "FAISS")


class Results:
    """All lines; of(section, size): those of the latest run that has that section."""

    def __init__(self, path, without=()):
        with open(path, encoding="utf-8") as f:
            self.all = [r for r in map(json.loads, f) if "section" in r and r["size"] in SIZES and r["run"] not in without]

    def of(self, section, size=None):
        these = [r for r in self.all if r["section"] == section and size in (None, r["size"])]
        return [r for r in these if r["run"] == max(x["run"] for x in these)]

    def one(self, section, size, what):
        return next((r for r in self.of(section, size) if r["what"] == what), None)


def table(head, rows):
    if not rows:
        return "Not measured yet."
    return "\n".join(["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"] +
                     ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def ms(x):
    return "" if x is None else f"{x:,.0f} ms" if x >= 100 else f"{x:.1f} ms" if x >= 10 else f"{x:.2f} ms"


def shape(size):
    return "20,000 x 16,384" if size == "standard" else "10,000 x 65,536"


def named(r):
    return f"{r['engine']} {r['version']}" if r.get("version") else {"FAISS": "FAISS 1.7.3, C API", "python3-faiss": "python3-faiss 1.7.3"}.get(
        r["engine"], r["engine"].replace("FAISS, ", "FAISS, OPENBLAS_CORETYPE="))


# ---- the sections of the page ------------------------------------------------------------------------

def machine(results):
    runs = [(size, results.of(section, size)) for size, section in (("standard", "single"), ("large", "single"), ("standard", "scaling"))]
    runs = [(size, r) for size, r in runs if r]
    if not runs:
        return "Not measured yet."
    first = runs[0][1][0]
    memory = results.of("machine", "standard")
    rates = ", ".join(f"{r['gb_s']['best']:.1f} GB/s on {r['threads']} core{'s' * (r['threads'] > 1)}" for r in memory)
    when = "; ".join(f"{r[0]['section']} {size}: {r[0]['run']}, commit {r[0]['commit']}, load {min(x['load1'] for x in r):.1f} to {max(x['load1'] for x in r):.1f}" for size, r in runs)
    return f"{first['machine']}, {first['cores']} cores, {first['memory_gib']} GiB, Linux {first['kernel']}. Memory reads at {rates} (`bench_memory`). Runs: {when}."


def single(results):
    out = []
    for size in SIZES:
        rows = [[named(r), ms(r["ms"]["p50"]), ms(r["ms"]["p95"]), ms(r["ms"]["min"]), r["ms"]["runs"],
                 goals.times(r["faster_than"].get("FAISS")), goals.times(r["faster_than"].get("USearch")), f"{r['same']} of {r['lists']}"]
                for r in sorted(results.of("single", size), key=lambda r: r["ms"]["p50"])]
        out += [f"One query, top 10, {shape(size)}:", "", table(["engine", "p50", "p95", "min", "runs", "times FAISS", "times USearch", "same answers"], rows), ""]
        for r in results.of("queries", size):
            w = r["work_a_query"]
            out += [f"`{r['engine']}`, {r['lists']} different queries: p50 {ms(r['ms']['p50'])}, p95 {ms(r['ms']['p95'])}, {r['same']} answered as the plain scan does, to the bit. "
                    f"Rows read a query, on average: bits {w['bits']:,.0f}, six {w['six']:,.0f}, low {w['low']:,.0f}, exact {w['exact']:,.0f}.", ""]
    return "\n".join(out).rstrip()


def batch(results):
    out = []
    for size in SIZES:
        rows = [[named(r), ms(r["ms"]["p50"]), ms(r["ms"]["p50"] / r["batch"]), goals.times(r["faster_than"].get("FAISS")), f"{r['same']} of {r['lists']}"]
                for r in sorted(results.of("batch", size), key=lambda r: r["ms"]["p50"])]
        out += [f"256 queries at once, {shape(size)}:", "", table(["engine", "p50", "each", "times FAISS", "same answers"], rows), ""]
    return "\n".join(out).rstrip()


def roofline(results):
    rows = []
    for size in SIZES:
        for r in results.of("roofline", size):
            b = r["bytes"]
            rows.append([shape(size), r["engine"], *(f"{b[t] / 1e6:,.1f}" for t in ("bits", "six", "low", "exact")), f"{sum(b.values()) / 1e6:,.0f} MB",
                         f"{r['gb_s']:.1f}", f"{r['roof_gb_s']:.1f}", ms(r["roof_ms"]), ms(r["p50"])])
    return table(["rows", "engine", "bits, MB", "six", "low", "exact", "in all", "GB/s", "memory's GB/s", "at that rate", "p50"], rows)


def http(results):
    out = []
    for size in SIZES:
        these = [r for r in results.of("http", size) if "clients" in r]
        rows = []
        for way in dict.fromkeys(r["way"] for r in these):
            find = lambda **kw: next((r for r in these if r["way"] == way and all(r[k] == v for k, v in kw.items())), None)
            one, many = find(clients=1, batch=1), find(clients=1, batch=256)
            clients = [find(clients=n, batch=1) for n in (8, 64)]
            if one:
                rows.append([f"`{way}`", ms(one["ms"]["p50"]), ms(one["ms"]["p99"]), ms(one["adds_ms"]["p50"]), f"{one['qps']:.0f}",
                             *(f"{r['qps']:.0f} ({r['of_one']:.1f}x)" if r else "" for r in clients), ms(many["ms"]["p50"]) if many else ""])
        out += [f"{shape(size)}:", "", table(["precision or engine", "p50", "p99", "HTTP adds", "1 client, queries/s", "8 clients", "64 clients", "256 in one request"], rows), ""]
    return "\n".join(out).rstrip()


def ingest(results):
    rows = []
    for size in SIZES:
        for r in results.of("ingest", size):
            if "of_dd" in r:
                rows.append([shape(size), f"{r['mb_s']:.0f} MB/s, {r['rows_s']:,.0f} rows/s", f"{r['mb_s'] / r['of_dd']:.0f} MB/s", f"{r['of_dd']:.2f}",
                             f"{r['busy']:.2f} of {r['cores']}", f"{r['store_bytes'] / r['body_bytes']:.2f} x the encodings", f"{r['anon_mib']:.0f} MiB"])
    restart = [r for size in SIZES for r in results.of("http", size) if r["what"].startswith("ready")]
    more = "".join(f"\n\nReady again after SIGKILL, from exec to the ready line, {shape(r['size'])}: p50 {ms(r['ms']['p50'])}, longest {ms(r['ms']['p95'])}." for r in restart)
    return table(["rows", "ingest", "dd of the same bytes", "ratio", "processors busy", "store", "anonymous memory"], rows) + more


def larger(results):
    rows = [[f"{r['limit'] >> 20} MiB", f"{r['store_bytes'] / 1e6:,.0f} MB", f"`{r['way']}`", ms(r["ms"]["p50"]), f"{r['read_bytes'] / 1e6:,.1f} MB", f"{r['mb_s']:,.0f} MB/s", f"{r['anon_mib']:.0f} MiB"]
            for r in results.of("larger") if "limit" in r]
    disk = next((r for r in results.of("larger") if "limit" not in r), None)
    head = f"The same file read in order past the cache by dd: {disk['mb_s']:.0f} MB/s.\n\n" if disk and disk["mb_s"] else ""
    return head + table(["memory allowed, page cache included", "store", "precision or engine", "p50", "read from disk a query", "rate", "anonymous"], rows)


def kernels(results):
    these = [r for r in results.of("kernels") if r.get("table")]
    tables = [t for t in dict.fromkeys(r["table"] for r in these if r["kernel"] != "peak")]
    find = lambda **kw: next((r for r in these if all(r.get(k) == v for k, v in kw.items())), None)
    rows = []
    for name, of in (("dot_bits", 2), ("dot_six", 2), ("dot_low", 2), ("dot_six", 64)):
        cells = [find(kernel=name, queries=of, table=t) for t in tables]
        rows.append([f"`{name}`, {of} queries", *(f"{r['cycles_a_row']:,} cycles, {r['mac_a_cycle']:.0f} MAC a cycle" if r else "" for r in cells)])
    for name in ("flip", "fwht", "encode", "split"):
        cells = [find(kernel=name, table=t) for t in tables]
        rows.append([f"`{name}`", *(f"{r['us']:.1f} us" if r else "" for r in cells)])
    peak = find(kernel="peak")
    more = f"\n\nThe dot product instruction of `{peak['table']}` alone reaches {peak['mac_a_cycle']:.0f} MAC a cycle." if peak else ""
    return table(["a row of 16,384, in cache", *tables], rows if tables else []) + more


# ---- pictures ------------------------------------------------------------------------------------------

def save(name, svg):
    os.makedirs(PICTURES, exist_ok=True)
    with open(os.path.join(PICTURES, name), "w", encoding="utf-8") as f:
        f.write(svg)
    print(f"docs/pictures/{name}")


def pictures(results):
    for size in SIZES:
        these = sorted(results.of("single", size), key=lambda r: r["ms"]["p50"])
        if these:
            rows = [(named(r).replace("OPENBLAS_CORETYPE=", ""), r["ms"]["p50"], f"{r['faster_than']['FAISS']:.1f}x FAISS" if "FAISS" in r["faster_than"] else "", r["engine"].startswith("ascribe")) for r in these]
            save(f"one-query-{size}.svg", picture.dots(f"One query, top 10, exact, {shape(size)} real encodings", "milliseconds, p50, logarithmic; green: ascribe", rows))
    these = [r for r in results.of("scaling") if r["curve"] in CURVES]
    if these:
        axis = {"N": "n", "d": "d", "k": "k", "batch": "batch"}
        plots = []
        for curve, name in CURVES.items():
            series = {line: [(r[axis[curve]], r["ms"]["p50"]) for r in these if r["curve"] == curve and r["engine"] == line] for line in LINES}
            if any(series.values()):
                plots.append((curve, name, series))
        save("scaling.svg", picture.panels("Scaling, made-up rows, both cores", "milliseconds a search, p50", plots, LINES))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", nargs="?", default=RESULTS)
    parser.add_argument("--without", default="")
    args = parser.parse_args()
    results = Results(args.results, args.without.split(","))
    with open(PAGE, encoding="utf-8") as f:
        page = f.read()
    parts = {"machine": machine, "goals": goals.table_of, "single": single, "batch": batch, "roofline": roofline, "http": http, "ingest": ingest, "larger": larger, "kernels": kernels}
    for name, make in parts.items():
        begin, end = f"<!-- bench:{name} -->", f"<!-- bench:{name} end -->"
        if begin not in page or end not in page:
            sys.exit(f"{PAGE}: no markers {begin} ... {end}")
        page = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{make(results)}\n{end}", page, flags=re.S)
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(page)
    print("docs/performance.md")
    pictures(results)


if __name__ == "__main__":
    main()
