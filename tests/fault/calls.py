#!/usr/bin/python3
"""calls.py - a whole server at each of its calls that change a file: killed (S2), told of an error (S8),
told that the disk is full (S7).

    calls.py [--points N] [--only FAULT,...] [--jobs N] [--seed N] [--book FILE]

The layer of shim.c stands between `ascribed` and the disk. The trace: a store is made, two corpora, ten
batches, takedowns, a compaction, a fit, a task, a backup, and the backup restored by `ascribed restore`.
What goes on at a fault must be as before it or as after it:

    killed        the server starts again, everything is compared (ledger.py), what had no answer is sent
                  again and arrives once; so for the restore
    eio_*         a store that was hit ends the server, exit code 5, without one more sync; or the request
                  was refused and the same one is taken as soon as the fault is over, by the same server
    enospc_*      refused, reads go on; taken when there is room again, by the same server

Without --points every call is tried, and on until the trace ends three times in a row without a fault.
A fault that the book has for this commit and seed, whole, is not tried again. Threads of a server are
not in step, so the number of calls differs a little from run to run; no point is without a fault's turn.
"""
import argparse
import collections
import concurrent.futures
import json
import mmap
import multiprocessing
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import clients as c
import ledger as l
from ledger import GONE, good, h, hold

COUNT, KILL, KILLED, FAIL = 0, 1, 2, 3
WRITE, SYNC, ROOM, NAME, UNNAME = 1, 2, 4, 8, 16
EVERY = WRITE | SYNC | ROOM | NAME | UNNAME
EIO, ENOSPC = 5, 28
STORE, STORE_FAILED = 2, 5  # exit codes of ascribed

# name -> action, kinds of calls, errno, from then on, text.sqlite too
FAULTS = {
    "killed": (KILL, EVERY, 0, 0, 1),
    "eio_sync": (FAIL, SYNC, EIO, 0, 0),
    "eio_write": (FAIL, WRITE, EIO, 0, 0),
    "enospc_once": (FAIL, EVERY & ~UNNAME, ENOSPC, 0, 0),
    "enospc_until_freed": (FAIL, EVERY & ~UNNAME, ENOSPC, 1, 1),
}

STEPS = [("corpus", 0), ("white", 0), ("fill", 0)]
for n in range(1, 11):
    STEPS.append(("ingest", n))
    STEPS += {3: [("delete", "b3-r7")], 5: [("delete", "b2-r0")], 6: [("compact", 0)],
              8: [("fit", 0.1), ("task", 0.6)], 9: [("backup", 0)]}.get(n, [])


class Shim:
    """The control block of shim.h, in a file that the server maps as well."""
    FIELDS = {"action": 0, "kinds": 4, "error": 8, "always": 12, "derived": 16}
    LONG = {"countdown": 24, "calls": 32, "hits": 40, "syncs_after": 48, "writes_after": 56, "marks": 64}

    def __init__(self, path, root):
        self.path = path
        with open(path, "w+b") as f:
            f.write(bytes(72) + os.fsencode(root).ljust(512, b"\0"))
            f.flush()
            self.map = mmap.mmap(f.fileno(), 584)

    def set(self, **values):
        for name, value in values.items():
            if name in self.FIELDS:
                struct.pack_into("<I", self.map, self.FIELDS[name], value)
            else:
                struct.pack_into("<q", self.map, self.LONG[name], value)

    def get(self, name):
        return struct.unpack_from("<Q", self.map, self.LONG[name])[0]

    def environment(self):
        return {"LD_PRELOAD": os.path.join(h.BUILD, "fault-shim.so"), "ASCRIBE_SHIM": self.path}


class Refused(Exception):
    """The server did not do it, and said so."""


def ask(reply, *statuses):
    if reply.status in (500, 503, 507):
        raise Refused(f"{reply.status} {reply.json()['code']}: {reply.json()['detail']}")
    return good(reply, *statuses)


class Run:
    """One store, one trace, one fault."""

    def __init__(self, seed, scratch, fault, n):
        self.base = tempfile.mkdtemp(prefix="calls-", dir=scratch)
        self.content = l.Content(seed, 40, 96)
        self.ledger = l.Ledger(self.base + "/ledger.txt")
        self.checker = l.Checker(self.content, self.ledger, "c")
        self.white = c.White(seed)
        self.store, self.target = self.base + "/root/store", self.base + "/root/restored"
        os.mkdir(self.base + "/root")
        self.shim = Shim(self.base + "/shim", self.base + "/root")
        self.action, kinds, error, always, derived = FAULTS[fault]
        self.shim.set(action=self.action if n is not None else COUNT, kinds=kinds, error=error, always=always,
                      derived=derived, countdown=-1 if n is None else n)
        self.at, self.made, self.filled, self.backup = "start", set(), False, None
        self.refused, self.code, self.restored = 0, None, False

    # ---- the steps ----

    def job(self, job):
        if job["state"] != "succeeded":
            raise Refused(str(job.get("error")))
        return job

    def do_corpus(self, client, _):
        ask(client.put("/v1/corpora/c", {"dim": 96}), 200, 201)
        self.made.add("c")

    def do_white(self, client, _):
        self.white.create(client, ask)
        self.made.add("w")

    def do_fill(self, client, _):
        self.white.fill(client, ask)
        self.filled = True

    def do_ingest(self, client, batch):
        self.ledger.write("intend", batch)
        told = ask(client.put(f"/v1/corpora/c/batches/b{batch}", self.content.body(batch)), 200, 201).json()
        hold((told["examples"], told["duplicates"]) == (self.content.rows, 0), "a batch answered", told)
        self.ledger.write("ack", batch)

    def do_delete(self, client, name):
        again = name in self.ledger.get("delete")
        self.ledger.write("delete", name)
        ask(client.delete(f"/v1/corpora/c/examples/{name}"), 204, *([404] if again else []))
        self.ledger.write("deleted", name)

    def do_compact(self, client, _):
        self.job(c.follow(client, client.post("/v1/admin/compact"), ask))

    def do_fit(self, client, damping):
        if self.white.flight:
            self.white.settle(client)  # one that was refused may have come all the same
        if not self.white.epoch:
            self.job(self.white.fit(client, damping, ask))
            self.white.fitted()

    def do_task(self, client, lam):
        self.job(self.white.task(client, "t0", lam, ask))

    def do_backup(self, client, _):
        before, gone = self.ledger.get("ack"), self.ledger.get("deleted")
        self.backup = (c.backup_of(self.job(c.follow(client, client.post("/v1/admin/backup"), ask))), before, gone)

    def restore(self):
        """`ascribed restore` of the backup under the same layer; its exit code."""
        env = {**os.environ, **self.shim.environment()}
        return subprocess.run([h.program("ascribed"), "restore", "--store", self.target, "--from", self.source()],
                              env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=l.LONG).returncode

    def source(self):
        return os.path.join(self.store, "backups", self.backup[0])

    # ---- the trace ----

    def server(self, faulty):
        return h.Server(self.store, ["--shard-bytes", "64K", "--chunk-bytes", "8K", *l.PATIENT],
                        self.shim.environment() if faulty else {})

    def step(self, server, client, word, value):
        """One step; when it is refused, reads go on, and it is taken as soon as nothing is in its way."""
        try:
            getattr(self, "do_" + word)(client, value)
            return
        except Refused as why:
            hold(self.shim.get("hits"), word, "refused of itself:", why)
            first = why
        self.refused += 1
        self.shim.set(action=COUNT)
        try:
            if self.ledger.get("ack"):
                self.checker.present(client)
            getattr(self, "do_" + word)(client, value)
        except Refused as why:
            # A store that failed takes no more writes, and ends its server.
            hold("sync_failed" in f"{first} {why}", word, "refused twice:", first, "; with nothing in its way:", why)
            raise ConnectionError(str(why))

    def steps(self, server):
        client = server.client(timeout=l.LONG)
        try:
            for word, value in STEPS:
                self.at = word
                self.step(server, client, word, value)
            self.at = "stop"
        finally:
            client.close()

    def serve(self):
        """Runs the server's part under the fault. Its exit code; -9 after a kill."""
        server = self.server(True)
        try:
            server.start(create=True, timeout=l.LONG)
            self.steps(server)
        except GONE:
            pass
        except AssertionError as fault:
            if "before it was ready" not in str(fault):
                server.process.kill()
                raise
        if self.at == "stop" and server.alive():
            server.process.terminate()
        code = server.process.wait(120)  # a store that failed ends the server by itself
        server.reader.join(10)
        server.assert_clean()
        return code

    def play(self):
        """The whole trace. The exit code of what ended it: 0 unless there was a fault."""
        self.code = self.serve()
        if self.code == 0:
            self.at = "restore"
            self.code = self.restore()
            if self.code == 0:
                self.at, self.restored = "end", True
        return self.code

    # ---- what there must be ----

    def check(self):
        hits = self.shim.get("hits")
        if self.action == KILL:
            hold(self.code == (-9 if hits else 0), "exit code", self.code, "in", self.at)
        elif hits:
            latched = self.code == STORE_FAILED
            hold(latched or self.code == 0 or self.at in ("start", "restore"), "exit code", self.code, "in", self.at)
            syncs = self.shim.get("syncs_after")
            hold(not latched or syncs == 0 or self.shim.get("marks"), syncs, "syncs after the failed one")
        else:
            hold(self.code == 0, "the trace itself ends in", self.at, "with", self.code)
        self.check_store()
        if self.backup:
            self.check_backup()

    def check_store(self):
        server = self.server(False)
        server.start(create=True, timeout=l.LONG)
        client = l.Steady(server)
        have = {x["name"] for x in good(client.get("/v1/corpora"), 200).json()["corpora"]}
        hold(self.made <= have, "corpora that were acknowledged are gone:", self.made - have)
        self.do_corpus(client, 0)
        self.checker.check(client, engines=("auto", "scan"), texts=True)
        unanswered = self.ledger.get("intend") - self.ledger.get("ack")
        for batch in unanswered:
            self.do_ingest(client, batch)
        if unanswered:
            self.checker.check(client)
        if self.filled:
            self.white.check(client)
        client.close()
        server.kill()  # a stop would cost as much as all of the above
        self.verify(self.store)

    def verify(self, store):
        done = h.offline("verify", "--store", store, timeout=l.LONG)
        hold(done.returncode == 0, "verify of", store, "says", done.stdout[-500:], done.stderr[-500:])

    def check_backup(self):
        if not self.restored:
            self.verify(self.source())
            hold(not os.path.exists(self.target) or self.at == "restore", "a restore that nobody asked for")
            if not os.path.exists(self.target):
                shutil.rmtree(self.target + ".part", ignore_errors=True)  # restore asks for that
                self.shim.set(action=COUNT)
                hold(self.restore() == 0, "the backup does not restore")
        self.verify(self.target)
        if self.at != "restore":
            return
        server = h.Server(self.target).start(create=False, timeout=l.LONG)
        with open(self.store + "/admin.key") as f:  # a backup has no keys in the clear
            client = l.Steady(server, f.read().strip())
        _, before, gone = self.backup
        self.ledger.said["deleted"] = gone
        self.checker.check(client, acked=before, intended=before)
        client.close()
        server.kill()

    def remove(self):
        self.ledger.close()
        self.shim.map.close()
        shutil.rmtree(self.base)


def point(seed, scratch, fault, n):
    """One fault at call n (None: none at all). What came of it; in a process of its own."""
    run = Run(seed, scratch, fault, n)
    try:
        run.play()
        run.check()
    except Exception as why:
        return {"n": n, "hit": True, "at": run.at, "left": run.base, "broken": isinstance(why, AssertionError),
                "why": f"{type(why).__name__}: {why}"[:3000]}
    found = {"n": n, "hit": bool(run.shim.get("hits")), "at": run.at, "calls": run.shim.get("calls"), "why": None,
             "latched": run.code == STORE_FAILED, "refused": run.refused, "code": run.code}
    run.remove()
    return found


class Sweep:
    """One kind of fault, at every call or at some."""

    def __init__(self, fault, seed, scratch):
        self.fault, self.seed, self.scratch = fault, seed, scratch
        self.hits, self.missed, self.latched, self.taken, self.broken = 0, 0, 0, 0, []
        self.at = collections.Counter()

    def add(self, found):
        if found["why"]:
            self.broken.append(found)
            print(f"calls.py: {self.fault} at call {found['n']} (seed {self.seed}), in {found['at']}: {found['why']}; "
                  f"left: {found['left']}", file=sys.stderr, flush=True)
        if not found["hit"]:
            self.missed += 1
            return
        self.hits += 1
        self.at[found["at"]] += 1
        self.latched += bool(found.get("latched"))
        self.taken += bool(found.get("refused")) and found["at"] == "end"

    def run(self, points, pool, dice):
        plain = [point(self.seed, self.scratch, self.fault, None) for _ in range(2 if points is None else 1)]
        for found in plain:
            hold(not found["why"], "the trace itself:", found["why"])
        total = max(found["calls"] for found in plain)
        chosen = range(total) if points is None else sorted(dice.sample(range(total), min(points, total)))
        work = [pool.submit(point, self.seed, self.scratch, self.fault, n) for n in chosen]
        for job in work:
            self.add(job.result())
            if self.hits % 200 == 0:
                print(f"calls.py: {self.fault}: {self.hits} of {total}", file=sys.stderr, flush=True)
        row, n = 0, total
        while points is None and row < 3:
            found = point(self.seed, self.scratch, self.fault, n)
            row, n = 0 if found["hit"] else row + 1, n + 1
            self.add(found)
        return total


def have(book, fault, seed):
    """The line of the book that makes this sweep needless, or None."""
    if book and os.path.exists(book):
        with open(book) as f:
            for line in map(json.loads, f):
                if (line["kind"], line.get("fault"), line["seed"], line["commit"]) == ("calls", fault, seed, l.COMMIT) \
                        and line.get("whole"):
                    return line
    return None


def sweep(points, seed, scratch, book, faults=tuple(FAULTS), jobs=1):
    """Sweeps the faults named, `points` calls of each (None: all), each one a line of the book."""
    lines, broken, dice = [], [], random.Random(seed)
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        for fault in faults:
            line = have(book, fault, seed) if points is None else None
            if line is None:
                begin, s = time.monotonic(), Sweep(fault, seed, scratch)
                total = s.run(points, pool, dice)
                line = l.record("calls", seed, s.hits, sum(b["broken"] for b in s.broken), time.monotonic() - begin,
                                book, fault=fault, calls=total, whole=points is None and not s.broken,
                                latched=s.latched, refused_then_taken=s.taken,
                                during=dict(s.at), **({"stopped": s.broken[0]["why"][:200]} if s.broken else {}))
                broken += s.broken
            lines.append(line)
    hold(not broken, "broke:", broken)
    return lines


def main():
    parser = argparse.ArgumentParser(description="Kills a server, or fails it, call by call.")
    parser.add_argument("--points", type=int)
    parser.add_argument("--only", default=",".join(FAULTS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scratch", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--book")
    args = parser.parse_args()
    sweep(args.points, args.seed, args.scratch, args.book, args.only.split(","), args.jobs)


if __name__ == "__main__":
    main()
