#!/usr/bin/python3
"""calls.py - a whole server, killed at its first, second, third ... call that changes a file (S2), or
given EIO in one (S8).

    calls.py [--points N] [--seed N] [--book FILE]

The layer of shim.c stands between `ascribed` and the disk. The trace: a store is made, ten batches,
takedowns, a compaction, a fit, a task, a backup. After each kill the server starts again without the
layer and the checker of ledger.py compares; after EIO it must have ended with exit code 5, if the store
was hit, without one more sync, or else have gone on to the end. Without --points all calls are tried.
"""
import argparse
import mmap
import os
import random
import shutil
import struct
import sys
import tempfile
import time

import kills
import ledger as l
from ledger import GONE, good, h, hold

KILL, KILLED, FAIL = 1, 2, 3
WRITE, SYNC, EVERY = 1, 2, 31
EIO, STORE_FAILED = 5, 5


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
        self.set(kinds=EVERY, derived=1, countdown=-1)

    def set(self, **values):
        for name, value in values.items():
            if name in self.FIELDS:
                struct.pack_into("<I", self.map, self.FIELDS[name], value)
            else:
                struct.pack_into("<q", self.map, self.LONG[name], value)

    def get(self, name):
        return struct.unpack_from("<Q", self.map, self.LONG[name])[0]


class Stopped(Exception):
    """The server said that it takes no more writes."""


class Run:
    """One store, one trace, one fault."""

    def __init__(self, seed, scratch):
        self.base = tempfile.mkdtemp(prefix="calls-", dir=scratch)
        self.content = l.Content(seed, 40, 96)
        self.ledger = l.Ledger(self.base + "/ledger.txt")
        self.checker = l.Checker(self.content, self.ledger, "c")
        self.white = kills.White(seed)
        self.made, self.backups = set(), []
        self.store = self.base + "/root/store"
        os.mkdir(self.base + "/root")
        self.shim = Shim(self.base + "/shim", self.base + "/root")

    def server(self, faulty):
        env = {"LD_PRELOAD": os.path.join(h.BUILD, "fault-shim.so"), "ASCRIBE_SHIM": self.shim.path} if faulty else {}
        return h.Server(self.store, ["--shard-bytes", "64K", "--chunk-bytes", "8K"], env)

    def ask(self, reply, *statuses):
        if reply.status in (500, 503, 507):
            raise Stopped(reply.json()["code"])
        return good(reply, *statuses)

    def job(self, client, reply):
        where = self.ask(reply, 202).headers["Location"]
        while True:
            job = self.ask(client.get(where), 200).json()
            job = job.get("job", job)
            if job["state"] not in ("queued", "running"):
                break
            time.sleep(0.002)
        if job["state"] != "succeeded":
            raise Stopped(str(job.get("error")))
        return job

    def ingest(self, client, batch):
        self.ledger.write("intend", batch)
        self.ask(client.put(f"/v1/corpora/c/batches/b{batch}", self.content.body(batch)), 201)
        self.ledger.write("ack", batch)

    def delete(self, client, name):
        self.ledger.write("delete", name)
        self.ask(client.delete(f"/v1/corpora/c/examples/{name}"), 204)
        self.ledger.write("deleted", name)

    def trace(self, client):
        w = self.white
        self.ask(client.put("/v1/corpora/c", {"dim": 96}), 201)
        self.made.add("c")
        self.ask(client.put("/v1/corpora/w", {"dim": kills.WHITE_DIM}), 201)
        names = [f"e{i}" for i in range(kills.WHITE_ROWS)]
        self.ask(client.put("/v1/corpora/w/batches/all", h.batch(w.rows, names)), 201)
        self.made.add("w")
        for batch in range(1, 11):
            self.ingest(client, batch)
            if batch in (3, 5):
                self.delete(client, f"b{batch}-r7")
            if batch == 6:
                self.job(client, client.post("/v1/admin/compact"))
            if batch == 8:
                w.flight = 0.1
                self.job(client, client.post("/v1/corpora/w/fit?damping=0.1"))
                w.epoch, w.damping, w.flight = 1, 0.1, None
                w.tasks["t0"] = {0.6}
                body = h.tensors([h.matrix("gradients", w.eval)])
                self.job(client, client.put("/v1/corpora/w/tasks/t0?lambda=0.6", body))
            if batch == 9:
                before = self.ledger.get("ack")
                done = self.job(client, client.post("/v1/admin/backup"))
                name = next(v for v in done["result"].values() if isinstance(v, str))
                self.backups.append((name, before))

    def play(self):
        """Runs the trace under the fault. The server's exit code, -9 after a kill."""
        server = self.server(True)
        try:
            server.start(create=True, timeout=600)
            self.trace(server.client(timeout=300))
        except (Stopped, *GONE):
            pass
        except AssertionError as fault:
            if "before it was ready" not in str(fault):
                raise
            return server.process.wait()
        if server.alive() and not self.shim.get("hits"):
            server.stop()
            return 0
        end = time.monotonic() + 5 * h.SLOW  # a store that failed ends the server by itself
        while server.alive() and time.monotonic() < end:
            time.sleep(0.02)
        if server.alive():
            server.process.terminate()
        code = server.process.wait(120)
        server.reader.join(10)
        server.assert_clean()
        return code

    def check(self):
        server = self.server(False)
        server.start(create=True, timeout=600)
        client = l.Steady(server)
        have = {c["name"] for c in good(client.get("/v1/corpora"), 200).json()["corpora"]}
        hold(self.made <= have, "corpora that were acknowledged are gone:", self.made - have)
        if "c" in have:
            self.checker.check(client, engines=("auto", "scan"), texts=True)
        if "w" in self.made:
            self.white.check(client)
        client.close()
        server.stop()
        done = h.offline("verify", "--store", self.store)
        hold(done.returncode == 0, "verify says", done.stdout[-500:], done.stderr[-500:])
        for name, before in self.backups:
            done = h.offline("verify", "--store", os.path.join(self.store, "backups", name))
            hold(done.returncode == 0, "the backup is damaged:", done.stdout[-500:])

    def remove(self):
        self.ledger.close()
        shutil.rmtree(self.base)


def point(seed, scratch, action, kinds, n):
    """One fault at call n of these kinds. True when it was reached."""
    run = Run(seed, scratch)
    run.shim.set(action=action, kinds=kinds, error=EIO, derived=int(action != FAIL), countdown=n)
    code = run.play()
    hit, syncs = run.shim.get("hits"), run.shim.get("syncs_after")
    try:
        if action == FAIL and hit:
            hold(code in (0, 2, STORE_FAILED), "exit code", code, "after EIO")
            hold(code == 0 or syncs == 0, syncs, "syncs after the failed one")
        run.check()
    except Exception:
        print(f"calls.py: seed {seed}, action {action} at call {n}: {run.base}", file=sys.stderr)
        raise
    run.remove()
    return bool(hit)


def count(seed, scratch, kinds):
    run = Run(seed, scratch)
    run.shim.set(kinds=kinds)
    hold(run.play() == 0, "the trace itself fails")
    run.check()
    calls = run.shim.get("calls")
    run.remove()
    return calls


def sweep(points, seed, scratch, book):
    """`points` of each kind of fault (None: all), spread over the trace by the seed."""
    begin, dice, done = time.monotonic(), random.Random(seed), {}
    for name, action, kinds in (("killed", KILL, EVERY), ("eio_sync", FAIL, SYNC), ("eio_write", FAIL, WRITE)):
        total = count(seed, scratch, kinds)
        chosen = range(total) if points is None else sorted(dice.sample(range(total), min(points, total)))
        done[name] = sum(point(seed, scratch, action, kinds, n) for n in chosen)
        done["calls_" + name] = total
    n = done["killed"] + done["eio_sync"] + done["eio_write"]
    return l.record("calls", seed, n, 0, time.monotonic() - begin, book, **done)


def main():
    parser = argparse.ArgumentParser(description="Kills a server, or fails it, call by call.")
    parser.add_argument("--points", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scratch", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--book")
    args = parser.parse_args()
    sweep(args.points, args.seed, args.scratch, args.book)


if __name__ == "__main__":
    main()
