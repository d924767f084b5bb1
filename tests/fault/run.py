#!/usr/bin/python3
"""run.py - the campaigns; every one that ran becomes a line of the book.

    run.py --build DIR [--hours H] [--seed N] [--book FILE] [--only KIND] [--jobs N]

Without --hours each runs once, two at a time, sized so that all are done within ten minutes on two idle
cores (`make fault`). With it they run one after the other with new seeds until the time is over (`make
campaign HOURS=`), and the book is tests/fault/ledger.jsonl. Exits 1 when a promise was broken, after all
have run.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time

import ledger as l


def storage(kind, seed, book, *flags):
    """One campaign of the program `fault`."""
    begin = time.monotonic()
    done = subprocess.run([l.h.program("fault"), "--seed", str(seed), *map(str, flags), kind],
                          stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"fault {kind}: exit {done.returncode}")
    found = json.loads(done.stdout)
    del found["kind"], found["seed"]
    n, violations = found.pop("n"), found.pop("violations")
    l.record("storage-" + kind, seed, n, violations, time.monotonic() - begin, book, **found)
    return violations


def script(name, seed, book, *flags):
    """One campaign that is a script of its own and writes its own line."""
    command = [sys.executable, os.path.join(l.HERE, name), "--seed", str(seed), *map(str, flags)]
    done = subprocess.run(command + (["--book", book] if book else []), stdin=subprocess.DEVNULL)
    return int(done.returncode != 0)


# kind -> what runs: ten minutes in all, and for hours.
ONCE = {
    "storage-kill": lambda seed, book: storage("kill", seed, book),
    "storage-error": lambda seed, book: storage("error", seed, book, "--stride", 2),
    "storage-power": lambda seed, book: storage("power", seed, book, "--limit", 2400),
    "storage-flips": lambda seed, book: storage("flips", seed, book, "--limit", 2000),
    "storage-cuts": lambda seed, book: storage("cuts", seed, book, "--limit", 20),
    "kill": lambda seed, book: script("kills.py", seed, book, "--kills", 48),
    "calls": lambda seed, book: script("calls.py", seed, book, "--points", 40, "--jobs", 1),
    "served-closed": lambda seed, book: script("served.py", seed, book, "--flips", 120),
    "served-live": lambda seed, book: script("served.py", seed, book, "--flips", 60, "--mode", "live"),
    "served-recheck": lambda seed, book: script("served.py", seed, book, "--flips", 30, "--mode", "recheck"),
    "alloc-server": lambda seed, book: script("alloc.py", seed, book, "--stride", 31),
    "alloc-storage": lambda seed, book: script("alloc.py", seed, book, "--storage", "--stride", 31),
}
LONG = {
    "storage-kill": lambda seed, book: storage("kill", seed, book),
    "storage-error": lambda seed, book: storage("error", seed, book),
    "storage-power": lambda seed, book: storage("power", seed, book, "--limit", 8000),
    "storage-flips": lambda seed, book: storage("flips", seed, book, "--limit", 10000),
    "storage-cuts": lambda seed, book: storage("cuts", seed, book, "--limit", 100),
    "kill": lambda seed, book: script("kills.py", seed, book, "--kills", 480),
    "calls": lambda seed, book: script("calls.py", seed, book),
    "served-closed": lambda seed, book: script("served.py", seed, book, "--flips", 1000),
    "served-live": lambda seed, book: script("served.py", seed, book, "--flips", 1000, "--mode", "live"),
    "served-recheck": lambda seed, book: script("served.py", seed, book, "--flips", 500, "--mode", "recheck"),
    "alloc-server": lambda seed, book: script("alloc.py", seed, book),
    "alloc-storage": lambda seed, book: script("alloc.py", seed, book, "--storage"),
}


def main():
    parser = argparse.ArgumentParser(description="Runs the fault campaigns.")
    parser.add_argument("--build", help="build folder; ASCRIBE_BUILD says it otherwise")
    parser.add_argument("--hours", type=float, default=0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--book", help="file that results are appended to")
    parser.add_argument("--only", help="kinds to run, with commas between them")
    parser.add_argument("--jobs", type=int, help="campaigns at a time (default 2, with --hours 1)")
    args = parser.parse_args()
    if args.build:
        os.environ["ASCRIBE_BUILD"] = args.build
        l.h.BUILD = os.path.join(l.h.ROOT, args.build)
    book = args.book or (l.BOOK if args.hours else None)
    kinds = args.only.split(",") if args.only else list(ONCE)
    end, seed, broken = time.monotonic() + args.hours * 3600, args.seed, []

    def one(kind, seed):
        if args.hours and time.monotonic() > end:
            return
        begin = time.monotonic()
        if (LONG if args.hours else ONCE)[kind](seed, book):
            broken.append((kind, seed))
        print(f"run.py: {kind}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    while True:
        with concurrent.futures.ThreadPoolExecutor(args.jobs or (1 if args.hours else 2)) as pool:
            for job in [pool.submit(one, kind, seed) for kind in kinds]:
                job.result()
        seed += 1000
        if time.monotonic() >= end:
            break
    for kind, seed in broken:
        print(f"BROKEN: {kind}, seed {seed}")
    print(f"{len(broken)} campaigns broke a promise", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
