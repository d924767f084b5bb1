#!/usr/bin/python3
"""report.py - writes the table of docs/reliability.md from tests/fault/ledger.jsonl.

    report.py [--check]      (--check: says whether the page is what the book gives, and writes nothing)
"""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "docs", "reliability.md")
BEGIN, END = "<!-- fault:ledger -->\n", "<!-- fault:ledger end -->\n"

# kind -> what it is, and which of its counts are told.
KINDS = {
    "kill": ("SIGKILL of a busy server at a random moment",
             "{acked:,} examples acknowledged, {restored} backups restored, {restore_kills} restores killed"),
    "calls": ("a server killed, or given EIO, at a call that changes a file",
              "{killed} kills, {eio_sync} failed syncs, {eio_write} failed writes"),
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
}


def read():
    with open(os.path.join(HERE, "ledger.jsonl")) as f:
        return [json.loads(line) for line in f if line.strip()]


def bound(n, violations):
    """The rule of three: what a share that was never seen is below, with 95 % confidence."""
    return f"< {300 / n:.2g} %" if n and not violations else "-"


def row(r):
    what, more = KINDS[r["kind"]]
    counts = {name: r.get(name, 0) for name in r}
    try:
        told = more.format(**counts)
    except KeyError:
        told = ", ".join(f"{r[k]:,} {k}" for k in ("acked", "restored") if k in r)
    for word in ("note", "stopped"):
        if word in r:
            told += f"; {'stopped ' if word == 'stopped' else ''}{r[word]}"
    return (f"| {r['date']} | {what} | {r['violations']} of {r['n']:,} | {bound(r['n'], r['violations'])} | "
            f"{told} | {r['commit']} | {r['seed']} |")


def sums(rows):
    out = ["| what | tried | broke a promise |", "| --- | --- | --- |"]
    for kind, (what, _) in KINDS.items():
        of = [r for r in rows if r["kind"] == kind]
        if of:
            out.append(f"| {what} | {sum(r['n'] for r in of):,} | {sum(r['violations'] for r in of)} |")
    return out


def table(rows):
    lines = sums(rows) + ["", "Every run, our own failures included:", "",
                          "| date | what | broke | bound | | commit | seed |", "| --- | --- | --- | --- | --- | --- | --- |"]
    return "\n".join(lines + [row(r) for r in rows]) + "\n"


def main():
    with open(PAGE) as f:
        page = f.read()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    made = head + BEGIN + table(read()) + END + tail
    if "--check" in sys.argv:
        sys.exit(0 if made == page else "docs/reliability.md is not what tests/fault/ledger.jsonl gives")
    with open(PAGE, "w") as f:
        f.write(made)


if __name__ == "__main__":
    main()
