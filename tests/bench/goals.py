"""goals.py - what the tiered engine was to reach, beside what was measured. A goal that is missed is
told as missed; one that was not measured, too."""


def times(x):
    return "" if x is None else f"{x:.1f}x" if x < 100 else f"{x:.0f}x"


def verdict(ok):
    return "PASS" if ok else "missed"


def speed(results, section, size, engine, goal):
    """At least `goal` = {peer: times} of the peers' speed, answers the same."""
    r = next((r for r in results.of(section, size) if r["engine"] == engine), None)
    if not r:
        return "not measured", ""
    have = {peer: r["faster_than"].get(peer) for peer in goal}
    said = ", ".join(f"{times(v)} {peer}" if v else f"{peer} not here" for peer, v in have.items())
    known = {peer: v for peer, v in have.items() if v}
    ok = known and all(v >= goal[peer] for peer, v in known.items()) and r["same"] == r["lists"]
    return said + ("" if r["same"] == r["lists"] else f"; answers differ: {r['same']} of {r['lists']}"), verdict(ok)


def over_http(results, size):
    said, ok = [], True
    for way in ("certified", "probabilistic"):
        r = results.one("http", size, f"{way}, 1 client")
        # Of the same run: minutes apart the machine is another one.
        inside = r and next((x for x in results.all if x["run"] == r["run"] and x["section"] == "single" and x["engine"] == f"ascribe {way}"), None)
        if not inside:
            return "not measured", ""
        more = r["ms"]["p50"] - inside["ms"]["p50"]
        said.append(f"{way} {more:+.2f} ms ({r['ms']['p50']:.2f})")
        ok = ok and more <= 2
    return ", ".join(said), verdict(ok)


def ratio(results, section, size, ways, what, most):
    """Every `what` of that section at most (or, negative, at least) `most`."""
    found = {way: results.one(section, size, what.format(way)) for way in ways}
    if not all(found.values()):
        return "not measured", ""
    values = {way: r.get("ratio", r.get("of_one")) for way, r in found.items()}
    ok = all(v <= most if most > 0 else v >= -most for v in values.values())
    return ", ".join(f"{way} {v:.2f}x" for way, v in values.items()), verdict(ok)


def ingest(results, size):
    r = next((r for r in results.of("ingest", size) if "of_dd" in r), None)
    if not r:
        return "not measured", ""
    bound = r["busy"] > .85 * r["cores"] and r["rows_s"] >= 4000
    return f"{r['of_dd'] * 100:.0f} % of dd, {r['rows_s']:,.0f} rows/s, {r['busy']:.2f} processors busy", verdict(r["of_dd"] >= .6 or bound)


def memory(results, size):
    r = results.one("http", size, "anonymous memory, peak so far")
    if not r:
        return "not measured", ""
    return f"{r['anon_mib']:.0f} MiB of {r['allowed_mib']:.0f}", verdict(r["anon_mib"] <= r["allowed_mib"])


def table_of(results):
    pair = ("certified", "probabilistic")
    rows = []
    for size, name in (("standard", "20,000 x 16,384"), ("large", "10,000 x 65,536")):
        rows += [
            (name + ": one query in process, `certified`", ">= 25x FAISS, >= 6x USearch", speed(results, "single", size, "ascribe certified", {"FAISS": 25, "USearch": 6})),
            ("the same, `probabilistic` at 1e-9", ">= 60x FAISS, >= 15x USearch", speed(results, "single", size, "ascribe probabilistic", {"FAISS": 60, "USearch": 15})),
            ("the same over HTTP, p50", "<= 2 ms more", over_http(results, size)),
            ("256 queries at once, `certified`", ">= 4x FAISS", speed(results, "batch", size, "ascribe certified", {"FAISS": 4})),
            ("64 clients", ">= 5x the queries/s of one", ratio(results, "http", size, pair, "{}, 64 clients", -5)),
            ("proponents and opponents", "<= 1.15x proponents alone", ratio(results, "both", size, pair, "ascribe {}, 10 opponents as well", 1.15)),
            ("under a task", "<= 1.3x without", ratio(results, "task", size, pair, "{}, under a task", 1.3)),
            ("ingest with codes", ">= 60 % of dd, or CPU-bound at >= 4,000 rows/s (16,384)", ingest(results, size)),
            ("anonymous memory during scans", "<= 256 MiB + 64 B a row", memory(results, size)),
        ]
    lines = ["| work | goal | measured | |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {work} | {goal} | {said} | {ok} |" for work, goal, (said, ok) in rows])
