#!/usr/bin/python3
"""report.py - writes the tables of docs/reliability.md, and the first of them in the README, from the
books: what ran, and nothing else.

    report.py [--check]      (--check: says whether the pages are what the books give, and writes nothing)

The books: tests/fault/ledger.jsonl, tests/fuzz/ledger.jsonl, and tests/net/ledger.jsonl if it is there. A
line of a kind that is not listed here brings its own words: `what`, `told`, and perhaps `asked`, `reached`.
"""
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
ROOT = os.path.dirname(TESTS)
PAGE, README = os.path.join(ROOT, "docs", "reliability.md"), os.path.join(ROOT, "README.md")
BEGIN, END = "<!-- fault:ledger -->\n", "<!-- fault:ledger end -->\n"

# kind -> what it is, and which of its counts are told.
KINDS = {
    "kill": ("SIGKILL of a busy server at a random moment",
             "{acked:,} examples acknowledged, {restored} backups restored, {restore_kills} restores killed"),
    "calls": ("a server killed, or given an error, at its calls that change a file",
              "{fault}: {n:,} points of {calls:,} calls; {latched} ended it by exit code 5, {refused_then_taken} were "
              "refused and taken later"),
    "storage-kill": ("storage killed before or after every call of a trace, and in recovery",
                     "{calls} calls, {recoveries_killed} recoveries killed as well"),
    "storage-error": ("EIO, ENOSPC, EINTR or a short write at every call",
                      "{latched} latched, {syncs_after_latch} syncs after the failed one"),
    "storage-power": ("power cuts: prefixes, chosen subsets, torn sectors, lost names",
                      "{prefixes} moments, {torn} with torn writes"),
    "storage-flips": ("bits, bytes and pages of a closed store changed",
                      "{live} met something live, {found_by_verify} of them found"),
    "storage-cuts": ("files cut, lengthened, emptied or missing",
                     "{live} met something live, {found_by_verify} of them found"),
    "served-closed": ("bits, bytes and pages changed, then a server asked everything", "{questions} questions each; "
                      "{named} named the damage, {partial} answered in part, {refused} did not start"),
    "served-live": ("the same, under a server that has read nothing yet", "{questions} questions each; "
                    "{named} named the damage, {partial} answered in part, {ended} ended the server"),
    "served-warm": ("the same, under a server that has read everything", "{questions} questions each; "
                    "{named} named the damage, {partial} answered in part, {ended} ended the server"),
    "served-recheck": ("the same, and a second has gone by, after which everything is summed again", "{questions} questions each; "
                       "{named} named the damage, {partial} answered in part, {ended} ended the server"),
    "alloc-server": ("an allocation of a server fails", "{sites} places; {answered} answered rightly, {refused} "
                     "refused by name, {closed} closed, {ended} ended the server by its own word"),
    "alloc-storage": ("an allocation in a step over storage fails", "{answered} steps ended well, {refused} refused and "
                      "done when asked again, {ended} ended the process by its own word"),
    "plants": ("faults planted on purpose", "{caught} caught"),
    "net-smuggle": ("requests that two parsers may take differently, held against others'", "{named} by name, the rest "
                    "made by chance; {peers}; {stricter} refused here alone, {passed_on} passed on by nginx"),
    "net-aborts": ("exchanges broken off at any byte", "{descriptors_left} descriptors left"),
    "net-network": ("examples sent through a network that breaks", "{connections} connections, {resets} reset; "
                    "{duplicates} twice"),
    "net-guesses": ("keys guessed", "Welch's t of near and far ones {welch_t}, of known and unknown ids {welch_t_id}"),
    "net-drains": ("SIGTERM under load", "{answers} answers, {cut} cut; at most {longest_s} s"),
    "net-overload": ("requests at {times} times of what can be done", "goodput {goodput}; refused in {refused_p50_ms} ms, "
                     "p99 {refused_p99_ms}"),
    "net-beside": ("requests of a good client beside bad ones", "ratio of p99 {ratios}"),
    "soak": ("seconds of mixed work on constant data", "{batches:,} batches, {deleted:,} taken down, {queries:,} queries, "
             "{checked} held against numpy, {compacted} compactions; memory {memory_mib:+} MiB, files {disk_mib:+} MiB, "
             "descriptors {descriptors:+}, LMDB readers {readers:+}"),
}


def read(path):
    try:
        with open(os.path.join(TESTS, path)) as f:
            return [json.loads(line) for line in f if line.strip()]
    except FileNotFoundError:
        return []


def bound(n, violations):
    """The rule of three: what a share that was never seen is below, with 95 % confidence."""
    return f"< {300 / n:.2g} %" if n and not violations else "-"


def words(r):
    """(what it is, its figures) of a line."""
    what, more = KINDS.get(r["kind"], (r.get("what", r["kind"]), "{told}"))
    what = what.format(**r)
    try:
        told = more.format(**r)
    except KeyError:  # a run that stopped, or of before a count was kept
        told = ", ".join(f"{r[k]:,} {word}" for k, word in (
            ("acked", "examples acknowledged"), ("restored", "backups restored"), ("killed", "kills"),
            ("eio_sync", "failed syncs"), ("eio_write", "failed writes")) if k in r)
    for word in ("note", "stopped"):
        if word in r:
            told += f"; {'stopped ' if word == 'stopped' else ''}{r[word]}"
    return what, told.replace("|", "/")


def row(r):
    what, told = words(r)
    return (f"| {r['date']} | {what} | {r['violations']} of {r['n']:,} | {bound(r['n'], r['violations'])} | "
            f"{told} | {r['commit']} | {r['seed']} |")


def sums(rows):
    """One line a kind: how often, and how often a promise was broken."""
    out, kinds = ["| what | tried | broke a promise |", "| --- | --- | --- |"], {}
    for r in rows:
        kinds.setdefault(r["kind"], []).append(r)
    for kind in sorted(kinds, key=lambda k: list(KINDS).index(k) if k in KINDS else len(KINDS)):
        of = kinds[kind]
        out.append(f"| {words(of[-1])[0]} | {sum(r['n'] for r in of):,} | {sum(r['violations'] for r in of)} |")
    return out


# ---- asked and reached ---------------------------------------------------------------------------

class Book:
    """Sums over all lines of some kinds."""

    def __init__(self, rows):
        self.rows = rows

    def of(self, *kinds, **having):
        return [r for r in self.rows if r["kind"] in kinds and all(r.get(k) == v for k, v in having.items())]

    def sum(self, count, *kinds, **having):
        return sum(r.get(count, 0) for r in self.of(*kinds, **having))

    def verdict(self, *kinds, **having):
        """(what broke of what was tried, the bound)."""
        n, broke = self.sum("n", *kinds, **having), self.sum("violations", *kinds, **having)
        return f"{broke} of {n:,}", bound(n, broke)

    def whole(self, fault):
        """The last sweep of every call of the server's trace: `n of calls`."""
        last = [r for r in self.of("calls", fault=fault) if r.get("whole")]
        return f"{last[-1]['n']:,} of {max(last[-1]['n'], last[-1]['calls']):,}" if last else (
            f"{self.sum('n', 'calls', fault=fault):,} chosen")


def reached(rows, fuzz):
    """[(asked, reached, broke, bound)]."""
    b, out = Book(rows), []

    def only(kind, *faults):
        return Book([r for r in rows if r["kind"] == kind or r.get("fault") in faults]).verdict(kind, "calls")

    if b.of("kill"):
        out.append(("1,000 random kills over 1,000,000 acknowledged examples: none lost, none twice",
                    f"{b.sum('n', 'kill'):,} kills, {b.sum('acked', 'kill'):,} examples; "
                    f"{b.sum('lost', 'kill')} lost, {b.sum('duplicated', 'kill')} twice", *b.verdict("kill")))
        n = b.sum("restored", "kill")
        out.append(("100 backups under load restored", f"{n:,}, each by a restore that was killed once", f"0 of {n:,}",
                    bound(n, 0)))
    if b.of("calls", fault="killed"):
        out.append(("killed at every write-family call of ten batches, takedowns, a compaction, a fit, a backup",
                    f"server: {b.whole('killed')} calls; storage: each of {b.of('storage-kill')[-1]['calls']}, before "
                    "and after", *only("storage-kill", "killed")))
        faults = ("eio_sync", "eio_write", "enospc_once", "enospc_until_freed")
        out.append(("EIO and ENOSPC at every call of ingest: no sync is tried again",
                    f"server: {', '.join(f'{f} {b.whole(f)}' for f in faults if b.of('calls', fault=f))}; storage: {b.sum('n', 'storage-error'):,}; "
                    f"{b.sum('syncs_after_latch', 'storage-error')} syncs after the failed one",
                    *only("storage-error", *faults)))
    for asked, kinds in (("5,000 power-cut states", ["storage-power"]),
                         ("10,000 flips: no wrong answer", ["storage-flips", "served-closed", "served-live",
                                                            "served-warm", "served-recheck"]),
                         ("allocation failures", ["alloc-server", "alloc-storage"])):
        if b.of(*kinds):
            out.append((asked, f"{b.sum('n', *kinds):,}", *b.verdict(*kinds)))
    if b.of("plants"):
        last = b.of("plants")[-1]
        out.append(("20 of 20 planted faults caught", f"{last['caught']} of {last['n']}",
                    f"{last['violations']} of {last['n']} missed", "-"))
    if fuzz:
        n, found = sum(r["executions"] for r in fuzz), sum(r["findings"] for r in fuzz if "note" not in r)
        out.append(("100,000,000 fuzz executions", f"{n:,} of {len({r['target'] for r in fuzz})} targets",
                    f"{found} of {n:,}", bound(n, found)))
    out += told_by_net(b)
    own = {r["asked"]: r for r in rows if "asked" in r}
    return out + [(a, r["reached"], f"{r['violations']} of {r['n']:,}", bound(r["n"], r["violations"]))
                  for a, r in own.items()]


def told_by_net(b):
    out = []
    if b.of("net-smuggle"):
        last = b.of("net-smuggle")[-1]
        out.append((f"requests held against {last['peers']}: none taken that they refuse",
                    f"{last['named']} by name, {b.sum('n', 'net-smuggle'):,} comparisons", *b.verdict("net-smuggle")))
    if b.of("net-drains"):
        out.append(("100 drains under load: no answer cut", f"{b.sum('n', 'net-drains')} drains, "
                    f"{b.sum('answers', 'net-drains'):,} answers", *b.verdict("net-drains")))
    for times in (3, 10):
        for last in b.of("net-overload", times=times)[-1:]:
            out.append((f"{times} times the load it can bear: goodput 0.9, refused in 10 ms",
                        f"goodput {last['goodput']}; refused in {last['refused_p50_ms']} ms, p99 {last['refused_p99_ms']}",
                        *b.verdict("net-overload", times=times)))
    ratios = {}
    for r in b.of("net-beside"):
        for manner, ratio in r["ratios"].items():
            if manner not in ("abort", "flood", "guess"):
                ratios.setdefault(manner, []).append(ratio)
    if ratios:
        middle = {manner: statistics.median(of) for manner, of in ratios.items()}
        out.append(("p99 of a good client beside 2,000 slow ones at most 1.5 times of alone",
                    ", ".join(f"{m} {middle[m]:.2f} ({min(of)} to {max(of)})" for m, of in ratios.items())
                    + "; medians of two or three runs, the crowd on the same two cores",
                    f"{sum(v > 1.5 for v in middle.values())} of {len(middle)} manners", "-"))
    return out


def first_table(rows, fuzz):
    return ["| asked | reached | broke | bound |", "| --- | --- | --- | --- |"] + [
        "| " + " | ".join(cells) + " |" for cells in reached(rows, fuzz)]


def whole(rows, fuzz):
    return first_table(rows, fuzz) + [
        "", "All runs of a kind together:", "", *sums(rows), "", "Every run, our own failures included:", "",
        "| date | what | broke | bound | | commit | seed |", "| --- | --- | --- | --- | --- | --- | --- |",
        *(row(r) for r in rows)]


def write(path, lines, check):
    with open(path, encoding="utf-8") as f:
        page = f.read()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    made = head + BEGIN + "\n".join(lines) + "\n" + END + tail
    if check and made != page:
        sys.exit(f"{os.path.relpath(path, ROOT)} is not what the books give: tests/fault/report.py")
    if not check:
        with open(path, "w", encoding="utf-8") as f:
            f.write(made)


def main():
    rows, fuzz = read("fault/ledger.jsonl") + read("net/ledger.jsonl"), read("fuzz/ledger.jsonl")
    write(PAGE, whole(rows, fuzz), "--check" in sys.argv)
    write(README, first_table(rows, fuzz), "--check" in sys.argv)


if __name__ == "__main__":
    main()
