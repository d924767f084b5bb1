#!/usr/bin/python3
"""alloc.py - a whole server whose allocations fail, one after the other (R1).

    alloc.py [--storage] [--points N] [--stride N] [--seed N] [--only STEP] [--mode once,ever] [--book FILE] [-v]

The layer of alloc/shim.c stands between `ascribed` and its memory, libuv, jansson, sqlite, OpenBLAS and
FAISS included. Each step (an ingest, queries by every engine, a fit, a task, a backup, bad input, ...) is
asked again and again, and the first, second, third ... allocation after it was sent fails: that one alone
(once), or it and the next ones until there is an answer (ever). Without --points until none is left.

    answered   2xx, and what it says is right
    refused    503 or 507 by name; a job that failed by such a name
    closed     the connection ended without an answer, the server goes on
    ended      the server said "no memory for N bytes" and ended; it starts again and nothing is lost

Everything else breaks a promise: another status, silence, a signal, an answer that is not right, a store
that the checker of ledger.py does not like. After each point the next request must be right again.
With --storage the program `alloc` runs instead: every allocation of the trace over storage.
"""
import argparse
import collections
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

import ledger as l
from ledger import GONE, h, hold

COUNT, ONCE, EVER, LIMIT = 0, 1, 2, 3
MODES = {"once": ONCE, "ever": EVER}
BOUND = 2000  # of `ever`: then memory is back, so that no wait is endless
SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
PATIENCE = 5  # seconds for one answer
# Who says that it ends for want of memory: we, and libraries that do not ask us (docs/reliability.md).
NO_MEMORY = re.compile(r"^no memory for \d+ bytes$", re.M)
THEIRS = re.compile(r"libgomp: Out of memory|std::bad_alloc|failed to register TLS destructor: out of memory")
REFUSALS = {(503, "busy"), (507, "storage_full")}


class Shim:
    """The control block of alloc/shim.h, in a file that the server maps as well."""
    SITE, SIZE = 72, 72 + 1024
    WORDS = {"mode": (0, "<I"), "least": (4, "<I"), "countdown": (8, "<q"), "bound": (16, "<q"),
             "limit": (24, "<q"), "calls": (32, "<Q"), "hits": (40, "<Q"), "blocks": (48, "<q"),
             "bytes": (56, "<q"), "size": (64, "<Q")}

    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as f:
            f.write(bytes(self.SIZE))
            f.flush()
            self.map = mmap.mmap(f.fileno(), self.SIZE)

    def set(self, name, value):
        at, shape = self.WORDS[name]
        struct.pack_into(shape, self.map, at, value)

    def get(self, name):
        at, shape = self.WORDS[name]
        return struct.unpack_from(shape, self.map, at)[0]

    def arm(self, mode, countdown, bound=BOUND):
        for name, value in (("mode", COUNT), ("countdown", countdown), ("bound", bound), ("calls", 0),
                            ("hits", 0), ("size", 0), ("mode", mode)):
            self.set(name, value)

    def disarm(self):
        """Hits since it was armed."""
        self.set("mode", COUNT)
        return self.get("hits")

    def site(self):
        return self.map[self.SITE:self.SIZE].split(b"\0")[0].decode().split()


class Pauses(threading.Thread):
    """Notices that the machine stood still: then a wait that was too long says nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.last = self.long = time.monotonic()
        self.start()

    def run(self):
        while True:
            time.sleep(0.1)
            now = time.monotonic()
            if now - self.last > 2:
                self.long = now
            self.last = now

    def lately(self):
        time.sleep(0.2)
        return time.monotonic() - self.long < 2 * PATIENCE


class Refused(Exception):
    """The server said by name that it cannot now."""


class Wrong(l.Violation):
    pass


DIM, ROWS = 96, 24


class Run:
    """One store and the server on it; what it must answer is known."""

    def __init__(self, seed, scratch):
        self.base = tempfile.mkdtemp(prefix="alloc-", dir=scratch)
        self.store = self.base + "/store"
        self.shim = Shim(self.base + "/shim")
        self.content = l.Content(seed, ROWS, DIM)
        self.ledger = l.Ledger(self.base + "/ledger.txt")
        self.checker = l.Checker(self.content, self.ledger, "c")
        self.dice = np.random.default_rng(seed)
        self.batch, self.number, self.starts = 0, 0, 0
        self.server = h.Server(self.store, ["--shard-bytes", "256K", "--chunk-bytes", "16K", "--threads", "2"],
                               {"LD_PRELOAD": os.path.join(h.BUILD, "alloc-shim.so"),
                                "ASCRIBE_ALLOC_SHIM": self.shim.path})
        self.client = None
        self.q = self.dice.standard_normal((3, DIM)).astype("<f4")
        self.start()
        self.prepare()

    def start(self):
        self.shim.set("mode", COUNT)
        self.server.start(create=True, timeout=60)
        self.client = self.server.client(timeout=PATIENCE)
        self.starts += 1

    def prepare(self):
        """Corpus q never changes: its answers are held against those of before. w is fitted, c grows."""
        rows = self.dice.standard_normal((200, DIM)).astype("<f4")
        many = [{"id": f"e{i}", "text": f"word{i % 7} of text {i}", "meta": {"n": i}} for i in range(200)]
        for name in ("c", "q", "w"):
            self.ask("put", f"/v1/corpora/{name}", {"dim": DIM})
        for name in ("q", "w"):
            self.ask("put", f"/v1/corpora/{name}/batches/all", h.batch(rows, many))
        self.eval = self.dice.standard_normal((5, DIM)).astype("<f4")
        self.job("post", "/v1/corpora/w/fit")
        self.ingest()
        self.right = self.look()

    def look(self):
        found = self.ask("post", "/v1/corpora/q/query?k=5&opponents=3", h.queries(self.q)).json()
        return found["results"], found["examples"]

    # ---- requests: the answer, or Refused, or what broke ----

    def ask(self, verb, path, *body, ok=(200, 201, 202, 204), **more):
        reply = getattr(self.client, verb)(path, *body, **more)
        if reply.status in ok:
            return reply
        try:
            said = reply.json()
        except ValueError:
            raise Wrong(f"{verb} {path}: {reply.status} without JSON: {reply.body[:200]!r}")
        if (reply.status, said.get("code")) in REFUSALS and said.get("detail"):
            raise Refused(said["detail"])
        raise Wrong(f"{verb} {path}: {reply.status} {said.get('code')}: {said.get('detail')}")

    def job(self, *asked):
        where = self.ask(*asked).headers["Location"]
        end = time.monotonic() + 12 * PATIENCE
        while time.monotonic() < end:
            job = self.ask("get", where).json()
            job = job.get("job", job)
            if job["state"] not in ("queued", "running"):
                break
            time.sleep(0.002)
        if job["state"] == "succeeded":
            return job
        why = job.get("error") or {}
        if isinstance(why, dict) and why.get("code") in ("busy", "storage_full"):
            raise Refused(why.get("detail"))
        raise Wrong(f"{asked}: the job {job['state']}: {why}")

    def ingest(self):
        self.batch += 1
        self.ledger.write("intend", self.batch)
        self.ask("put", f"/v1/corpora/c/batches/b{self.batch}", self.content.body(self.batch))
        self.ledger.write("ack", self.batch)

    def takedown(self):
        gone = self.ledger.get("delete")
        name = next(f"b{b}-r{r}" for b in sorted(self.ledger.get("ack"), reverse=True) for r in range(ROWS)
                    if f"b{b}-r{r}" not in gone)
        self.ledger.write("delete", name)
        self.ask("delete", f"/v1/corpora/c/examples/{name}")
        self.ledger.write("deleted", name)

    def query(self, engine, corpus="q", more=""):
        found = self.ask("post", f"/v1/corpora/{corpus}/query?k=5&opponents=3&engine={engine}{more}",
                         h.queries(self.q)).json()
        if corpus == "q" and not more:
            hold((found["results"], found["examples"]) == self.right, "another answer by", engine)

    def query_json(self):
        body = {"queries": self.q.astype(float).tolist(), "k": 5, "opponents": 3}
        found = self.ask("post", "/v1/corpora/q/query", body).json()
        hold(found["results"] == self.right[0], "another answer to JSON")

    def many(self):
        rows = np.repeat(self.q, 12, axis=0)
        found = self.ask("post", "/v1/corpora/q/query?k=5&opponents=3", h.queries(rows)).json()
        hold(found["results"][0] == self.right[0][0], "another answer to a batch")

    def scores(self):
        reply = self.ask("post", "/v1/corpora/q/scores?dtype=f64", h.queries(self.q))
        try:
            parts, _ = h.read_tensors(reply.body)
        except Exception as fault:
            raise Wrong(f"scores that do not read: {fault}")
        hold(parts["scores"][1].shape == (3, 200), "scores of another shape")

    def task(self):
        self.number += 1
        body = h.tensors([h.matrix("gradients", self.eval)])
        self.job("put", f"/v1/corpora/w/tasks/t{self.number}?lambda=0.5", body)

    def task_query(self):
        if not hasattr(self, "bent"):
            self.task()
            self.bent = f"t{self.number}"
        self.query("auto", "w", f"&task={self.bent}")

    def corpus(self):
        self.number += 1
        self.ask("put", f"/v1/corpora/n{self.number}", {"dim": 8, "blocks": [{"name": "a", "dim": 4},
                                                                          {"name": "b", "dim": 4}]})
        self.ask("delete", f"/v1/corpora/n{self.number}")

    def save(self):
        self.number += 1
        said = b'{"prompt":"who?","target":"he"}'
        body = h.tensors([h.matrix("gradient", self.q[0]), ("query", "U8", [len(said)], said)])
        self.ask("put", f"/v1/corpora/q/queries/s{self.number % 5}", body)
        self.ask("get", "/v1/corpora/q/queries")

    def backup(self):
        self.job("post", "/v1/admin/backup")
        shutil.rmtree(self.store + "/backups", ignore_errors=True)

    def bad(self, path, body, status, **more):
        reply = self.ask("post", path, body, ok=(status,), **more)
        hold(reply.json()["code"], "no code")

    def key(self):
        made = self.ask("post", "/v1/admin/keys", {"label": "k", "scope": "read"}).json()
        self.ask("delete", f"/v1/admin/keys/{made['id']}")

    def fresh(self):
        self.client.close()
        self.ask("get", "/v1/corpora/q")


STEPS = {
    "ingest": Run.ingest,
    "takedown": Run.takedown,
    "query": lambda r: r.query("auto"),
    "query-flat": lambda r: r.query("flat"),
    "query-scan": lambda r: r.query("scan"),
    "query-tiered": lambda r: r.query("tiered"),
    "query-json": Run.query_json,
    "query-filter": lambda r: r.query("auto", "q", "&filter=" + h.quote('meta.n < 100 and not id = "e5"')),
    "query-task": Run.task_query,
    "query-36": Run.many,
    "scores": Run.scores,
    "search": lambda r: r.ask("post", "/v1/corpora/q/search", {"text": "word3 text", "k": 5}),
    "examples": lambda r: r.ask("get", "/v1/corpora/q/examples?limit=50"),
    "example": lambda r: r.ask("get", "/v1/corpora/q/examples/e7"),
    "norms": lambda r: r.ask("get", "/v1/corpora/q/norms"),
    "corpus": Run.corpus,
    "save": Run.save,
    "key": Run.key,
    "info": lambda r: [r.ask("get", p) for p in ("/v1/info", "/v1/corpora", "/openapi.json", "/")],
    "metrics": lambda r: r.ask("get", "/metrics"),
    "fresh": Run.fresh,
    "bad-json": lambda r: r.bad("/v1/corpora/q/query", b'{"queries": [[1, 2', 400, type="application/json"),
    "bad-tensor": lambda r: r.bad("/v1/corpora/q/query", b"\xff" * 64, 400),
    "bad-dim": lambda r: r.bad("/v1/corpora/q/query", h.queries(np.ones((1, 7))), 422),
    "fit": lambda r: r.job("post", "/v1/corpora/w/fit"),
    "task": Run.task,
    "compact": lambda r: r.job("post", "/v1/admin/compact"),
    "verify": lambda r: r.job("post", "/v1/admin/verify"),
    "backup": Run.backup,
}


class Sweep:
    def __init__(self, seed, scratch, loud):
        self.run, self.loud = Run(seed, scratch), loud
        self.pauses = Pauses()
        self.n, self.found, self.sites = 0, collections.Counter(), set()
        self.ends = collections.Counter()  # who ended it
        self.closes = collections.Counter()
        self.first = 0
        self.theirs = collections.Counter()  # ends by a library's word

    def who(self):
        """The innermost frames of the first refusal, for a person."""
        return " ".join(self.run.shim.site()[:7])

    def ended(self):
        """The server is gone: by its own word, and it comes back with everything."""
        run = self.run
        run.server.process.wait(PATIENCE)
        run.server.reader.join(10)
        code, said = run.server.process.returncode, run.server.tail(6)
        if THEIRS.search(said):
            self.theirs[THEIRS.search(said).group()] += 1
        else:
            hold(code == -signal.SIGABRT and NO_MEMORY.search(said), "the server ended with", code, "and said:", said)
        run.start()
        self.whole()

    def whole(self):
        self.run.checker.check(l.Steady(self.run.server), engines=("auto", "scan"))
        hold(self.run.look() == self.run.right, "answers changed")

    def point(self, step, mode, n):
        """One failure. What came of it, or None when there was no n-th allocation."""
        run, came = self.run, None
        run.shim.arm(mode, n)
        try:
            STEPS[step](run)
            came = "answered"
        except Refused:
            came = "refused"
        except TimeoutError:
            if not self.pauses.lately():
                raise Wrong("no answer within", PATIENCE, "s")
            run.client.close()
            came = "closed"
        except GONE:
            came = "closed"
        hits = run.shim.disarm()
        if came == "closed":
            run.client.close()
            end = time.monotonic() + 0.2  # a core is still being ended
            while run.server.alive() and time.monotonic() < end:
                time.sleep(0.01)
        if not run.server.alive():
            self.ends[self.who()] += 1
            self.ended()
            came = "ended"
        elif came == "closed":
            self.closes[self.who()] += 1
        if not hits and came == "ended":
            return came  # of the point before: its last thread was slow to say so
        if not hits:
            hold(came == "answered", "without a failure:", came)
            return None
        self.sites.add(" ".join(run.shim.site()[:12]))
        return self.next_answer(came)

    def next_answer(self, came):
        """The request after it must be right. What answered first may end the server yet: then by its word."""
        run = self.run
        for _ in range(2):
            try:
                hold(run.look() == run.right, "the next answer is another")
                return came
            except GONE:
                run.client.close()
                time.sleep(0.05)
            except Refused:
                raise Wrong("refused, although there is memory again")
            if not run.server.alive():
                self.ends[self.who()] += 1
                self.ended()
                return "ended"
        raise Wrong("no next answer")

    def step(self, step, modes, points, stride):
        run = self.run
        STEPS[step](run)  # whatever is made once is made
        for name in modes:
            n, tried = self.first % min(stride, 11), 0
            self.first += 37
            counts = collections.Counter()
            grown = 0
            while True:
                blocks, starts = run.shim.get("blocks"), run.starts
                try:
                    came = self.point(step, MODES[name], n)
                except l.Violation as fault:
                    counts["violations"] += 1
                    print(f"BROKEN: {step}, {name}, allocation {n}: {fault} | {self.who()}", flush=True)
                    run.shim.disarm()
                    run.client.close()
                    if not run.server.alive():
                        run.start()
                    came = "broken"
                if came is None or (points and tried >= points):
                    break
                if starts == run.starts:
                    grown += run.shim.get("blocks") - blocks
                counts[came] += 1
                self.n += 1
                tried += 1
                n += stride
            self.found.update(counts)
            if self.loud:
                print(f"{step:14} {name:5} {tried:5} points, {dict(counts)}, blocks {grown:+}, "
                      f"of themselves {self.growth(step) * tried:+.0f}",
                      flush=True)

    def growth(self, step):
        """Blocks that one such request leaves when nothing fails."""
        before = self.run.shim.get("blocks")
        for _ in range(20):
            STEPS[step](self.run)
        return (self.run.shim.get("blocks") - before) / 20


def sweep(points, seed, scratch, book, only=None, modes=("once", "ever"), loud=False, stride=1):
    begin = time.monotonic()
    s = Sweep(seed, scratch, loud)
    for name in STEPS:
        if not only or name in only:
            s.step(name, modes, points, stride)
    s.whole()
    s.run.server.stop()
    done = h.offline("verify", "--store", s.run.store)
    hold(done.returncode == 0, "verify says", done.stdout[-500:], done.stderr[-500:])
    if loud:
        for what, counter in (("ended by", s.ends), ("ended by their word", s.theirs), ("closed by", s.closes)):
            for site, count in counter.most_common():
                print(f"{what} {count:5} {site}")
    s.run.ledger.close()
    shutil.rmtree(s.run.base)
    return l.record("alloc-server", seed, s.n, s.found.pop("violations", 0), time.monotonic() - begin, book,
                    sites=len(s.sites), theirs=sum(s.theirs.values()),
                    **{k: s.found[k] for k in ("answered", "refused", "closed", "ended")})


def storage(stride, seed, book):
    begin = time.monotonic()
    done = subprocess.run([h.program("alloc"), "--stride", str(stride), "--first", str(seed)],
                          stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    hold(done.returncode in (0, 1), "alloc: exit", done.returncode)
    found = json.loads(done.stdout)
    del found["kind"]
    return l.record("alloc-storage", seed, found.pop("n"), found.pop("violations"), time.monotonic() - begin, book,
                    **found)


def main():
    parser = argparse.ArgumentParser(description="Fails a server's allocations one after the other.")
    parser.add_argument("--points", type=int, help="of each step and mode; all without")
    parser.add_argument("--storage", action="store_true")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", help="steps, with commas between them")
    parser.add_argument("--mode", default="once,ever")
    parser.add_argument("--scratch", default=SCRATCH)
    parser.add_argument("--book")
    parser.add_argument("-v", action="store_true", dest="loud")
    args = parser.parse_args()
    if args.storage:
        line = storage(args.stride, args.seed, args.book)
        sys.exit(1 if line["violations"] else 0)
    line = sweep(args.points, args.seed, args.scratch, args.book, args.only and args.only.split(","),
                 args.mode.split(","), args.loud, args.stride)
    sys.exit(1 if line["violations"] else 0)


if __name__ == "__main__":
    main()
