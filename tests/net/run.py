#!/usr/bin/python3
"""run.py - the server among clients that mean it ill, and one that means it well.

    tests/net/run.py --build DIR [--only PART,...] [--crowds MANNER,...] [--quick] [--seed N] [--book FILE]

Parts: beside (p99 of a good client beside crowds of bad ones), aborts (exchanges broken off
anywhere: what is left of them), overload (three and ten times what it can do), drains (SIGTERM under
load: no answer cut), smuggle (verdicts beside Node's parser and nginx's, and through nginx), network
(an ingest through one that breaks), guesses (keys by chance, and what time tells of a right one).
A line a measurement; exits 1 when a promise is broken. Ratios of times are reported and not judged:
they depend on what else the machine does. --book appends a record a part (report.py's table).
"""
import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tests/integration")]


class Bench:
    """What every part has: the harness, a place for files, and a record of what was found."""

    def __init__(self, args):
        import harness
        self.h, self.args, self.failed, self.records, self.servers = harness, args, [], [], []
        self.scratch = tempfile.mkdtemp(prefix="ascribe-net-")
        self.commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=10", "HEAD"], capture_output=True,
                                     text=True, check=False).stdout.strip()

    def pick(self, quick, whole):
        return quick if self.args.quick else whole

    def note(self, part, **figures):
        print(f"{part:10} " + "  ".join(f"{k} {v}" for k, v in figures.items() if v is not None), flush=True)

    def check(self, holds, what):
        """A promise; returns 1 when it is broken."""
        if not holds:
            self.failed.append(what)
            print("           BROKEN: " + what, flush=True)
        return int(not holds)

    def book(self, kind, n, violations, **figures):
        """One record of what was tried `n` times and broke a promise `violations` times."""
        self.records.append({"kind": "net-" + kind, "date": str(datetime.datetime.now(datetime.timezone.utc).date()),
                             "commit": self.commit, "seed": self.args.seed, "n": n, "violations": violations,
                             **figures})

    def serve(self, *args, store=None, create=True):
        server = self.h.Server(store or os.path.join(tempfile.mkdtemp(dir=self.scratch), "s"), args)
        self.servers.append(server)
        return server.start(create=create)

    def end(self, server):
        server.stop()
        server.assert_clean()

    def fill(self, client, rows=4000, dim=256):
        """A corpus c with texts; the body of a query."""
        x = np.random.default_rng(1).standard_normal((rows, dim)).astype("f4")
        assert client.put("/v1/corpora/c", {"dim": dim}).status == 201
        text = "a passage of some length " * 8
        assert client.put("/v1/corpora/c/batches/b", self.h.batch(
            x, [{"id": f"i{i}", "text": f"{i} {text}"} for i in range(rows)])).status == 201
        return self.h.queries(x[:1])


def smuggle(b):
    import contextlib
    import peers
    import smuggle as s
    server = b.serve("--log-level", "debug")
    cases = s.CASES + s.wild(b.args.seed, b.pick(300, 10000))
    judged, passed_on, wrong = {}, 0, 0
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(peers.Node())] if peers.program("node") else []
        nginx = stack.enter_context(peers.Nginx(server.address)) if peers.program("nginx") else None
        others += [nginx] if nginx else []
        for name, data, ours, theirs in s.compare(server, others, cases):
            wrong += b.check(ours[0] != ["hangs"], f"{name}: no answer")
            for peer, (verdict, judgement) in theirs.items():
                judgement = "excused" if s.excused(peer, data, judgement) else judgement
                judged[judgement] = judged.get(judgement, 0) + 1
                wrong += b.check(judgement in ("same", "stricter", "excused"),
                                 f"{name}: {judgement}: {ours} here, {verdict} by {peer}: {data[:300]!r}")
        if nginx:
            through = s.CASES + s.wild(b.args.seed + 1, b.pick(100, 2000))
            for name, here, there in s.behind(server, nginx, through, b.h.wait_until):
                wrong += b.check(False, f"{name}: nginx passed {there} requests on by then, {here} were seen here")
            passed_on = nginx.passed_on()
        names = " and ".join(p.name for p in others) or "nobody"
    b.note("smuggle", named=len(s.CASES), compared=2 * len(cases) * len(others), **judged, through_nginx=passed_on,
           peers=names)
    b.check(server.alive(), "the server lives after all cases")
    b.end(server)
    b.book("smuggle", 2 * len(cases) * len(others), wrong, named=len(s.CASES), passed_on=passed_on, peers=names,
           stricter=judged.get("stricter", 0))


def main():
    import doors
    import strain
    parts = {"smuggle": smuggle, "drains": strain.drains, "overload": strain.overload, "aborts": strain.aborts,
             "network": doors.network, "guesses": doors.guesses, "beside": strain.beside}
    parser = argparse.ArgumentParser(description="Hostile clients, bad networks, overload and drains.")
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--only", default=",".join(parts))
    parser.add_argument("--crowds", help="of `beside`: these alone, MANNER,... of crowd.py")
    parser.add_argument("--quick", action="store_true", help="a part in some seconds: for every run of the tests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--book", help="append a record a part there")
    args = parser.parse_args()
    os.environ["ASCRIBE_BUILD"] = args.build
    b = Bench(args)
    try:
        for name in args.only.split(","):
            begin, first = time.monotonic(), len(b.records)
            parts[name](b)
            for r in b.records[first:]:
                r["seconds"] = round(time.monotonic() - begin)
                if args.book:
                    with open(args.book, "a", encoding="utf-8") as f:
                        f.write(json.dumps(r) + "\n")
    finally:
        for server in b.servers:
            if server.alive():
                server.process.kill()  # of a part that did not come to its end
        shutil.rmtree(b.scratch, ignore_errors=True)
    print("ok" if not b.failed else f"{len(b.failed)} promises broken")
    sys.exit(1 if b.failed else 0)


if __name__ == "__main__":
    main()
