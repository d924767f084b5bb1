#!/usr/bin/python3
"""served.py - bits, bytes and pages of a store changed, and a whole server asked about it (S12, S13).

    served.py [--flips N] [--seconds S] [--seed N] [--mode closed|live|warm|recheck] [--scratch DIR] [--book FILE]

A small store: a corpus as ingested, one in half precision with examples taken down, one that is fitted
and has a task and a saved query. Each damage hits one file of a copy:

    closed   before the server starts
    live     after the start, before anything is read: the server's maps show it at once
    warm     after everything was read once (what was right then is not summed again for --recheck-s, here for ever)
    recheck  the same, and asked only when --recheck-s (here a second) has gone by

Then everything is asked: both ends by every engine, certified and probabilistic, under a task, through
a filter, by `like`, every score, texts, pages, words, examples and encodings by id. Right are: the answer
that brute force gives over all rows; the same over all but the rows that the answer names as damaged; an
error that says what is damaged; no start, with a line that names the file. Whatever was not answered as
before must be found by `ascribed verify`. A server that a signal ends is wrong when the store was closed;
of a live one it is counted, for LMDB believes its own pages.
"""
import argparse
import itertools
import os
import random
import shutil
import sys
import tempfile
import time

import numpy as np

import ledger as l
from ledger import GONE, good, h, hold

PAGE = 4096
MAP_FAILED, NO_STORE = 6, 2
ROUND_S = 1.4  # a round of checks of one second, and a loop that is busy
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel".split()


class Named(Exception):
    """An error that says what is damaged."""


class Missed(Named):
    """An id that is there and was not found. Whether it is there a damaged key cannot say; verify must."""


def same(got, want, *what):
    hold(got == want, *what, "is", str(got)[:300], "and was", str(want)[:300])


class Corpus:
    """One corpus as it was: rows in ingest order, what each scores on each query, texts, filters."""

    def __init__(self, name, rows, dim, dtype, dice):
        self.name, self.dim, self.dtype = name, dim, dtype
        self.x = dice.standard_normal((rows, dim)).astype("<f4")
        self.q = dice.standard_normal((2, dim)).astype("<f4")
        self.examples = [{"id": f"{name}{i}", "text": " ".join(WORDS[(i * n + n) % 8] for n in range(1, 30)) + f" {i}",
                          "meta": {"half": i % 2, "n": i}} for i in range(rows)]
        self.live = [True] * rows
        self.scores, self.tasks = {}, []

    def ids(self):
        return [e["id"] for e, lives in zip(self.examples, self.live) if lives]

    def sequences(self):
        return np.flatnonzero(self.live)


class Template:
    """The store that is damaged, and all its right answers."""

    def __init__(self, seed, base):
        dice = np.random.default_rng(seed)
        self.store = os.path.join(base, "whole")
        self.corpora = [Corpus("a", 240, 512, "f32", dice), Corpus("b", 180, 512, "f16", dice),
                        Corpus("w", 160, 96, "f32", dice)]
        server = h.Server(self.store, ["--shard-bytes", "512K", "--chunk-bytes", "32K"])
        server.start(timeout=600)
        client = l.Steady(server)
        for c in self.corpora:
            good(client.put(f"/v1/corpora/{c.name}", {"dim": c.dim, "dtype": c.dtype}), 201)
            for at in range(0, len(c.x), 60):
                good(client.put(f"/v1/corpora/{c.name}/batches/{at}", h.batch(c.x[at:at + 60], c.examples[at:at + 60])), 201)
        for i in (3, 60, 61, 100):
            good(client.send("delete", f"/v1/corpora/b/examples/b{i}"), 204)
            self.corpora[1].live[i] = False
        self.job(client, client.post("/v1/corpora/w/fit?damping=0.1"))
        self.job(client, client.put("/v1/corpora/w/tasks/t?lambda=0.6", h.tensors([h.matrix("gradients", dice.standard_normal((9, 96)))])))
        good(client.put("/v1/corpora/w/queries/kept", {"prompt": "who", "gradient": [float(v) for v in self.corpora[2].q[0]]}), 201)
        self.corpora[2].tasks = ["t"]
        for c in self.corpora:
            for task in [None, *c.tasks]:
                c.scores[task] = self.all_scores(client, c, task)
            c.like = self.all_scores(client, c, None, self.encoding(client, c, c.ids()[7])[None]) if c.name == "a" else None
        self.check_scores()
        self.index(client)
        client.close()
        server.stop()
        self.files = sorted(os.path.relpath(os.path.join(d, f), self.store)
                            for d, _, names in os.walk(self.store) for f in names
                            if f not in ("lock.mdb", "LOCK") and os.path.getsize(os.path.join(d, f)))
        self.asks = self.questions()

    def job(self, client, reply):
        where = good(reply, 202).headers["Location"]
        while True:
            job = good(client.get(where), 200).json()
            job = job.get("job", job)
            if job["state"] not in ("queued", "running"):
                hold(job["state"] == "succeeded", job)
                return
            time.sleep(0.005)

    def encoding(self, client, c, name):
        parts, _ = h.read_tensors(good(client.get(f"/v1/corpora/{c.name}/examples/{name}/encoding"), 200).body)
        return h.widen(parts["encoding"][1], c.dtype)

    def all_scores(self, client, c, task, q=None):
        """[query, live row], of the store as it was. Of a plain corpus held against numpy below."""
        if q is not None:
            return h.lane_dot(h.widen(h.normalise(c.x, c.dtype)[0], c.dtype)[c.live], q[0])[None]
        path = f"/v1/corpora/{c.name}/scores?dtype=f64" + (f"&task={task}" if task else "")
        parts, _ = h.read_tensors(good(client.post(path, h.queries(c.q)), 200).body)
        return parts["scores"][1].copy()

    def check_scores(self):
        for c in self.corpora[:2]:
            rows = h.widen(h.normalise(c.x, c.dtype)[0], c.dtype)[c.live]
            right = np.array([h.lane_dot(rows, u) for u in h.normalise(c.q)[0]])
            hold(right.tobytes() == c.scores[None].tobytes(), "the whole store's scores are not those of numpy")

    def index(self, client):
        """Search follows the store; the answers wait for it."""
        for c in self.corpora:
            c.found = good(client.post(f"/v1/corpora/{c.name}/search", {"text": "delta golf", "k": 30}), 200).json()
            hold(c.found["missing"] == 0, "the text index is not whole")

    # ---- what is asked: each a name and a function of a client; it raises Violation or Named, gives True when partial

    def questions(self):
        out = []
        for c in self.corpora:
            path = f"/v1/corpora/{c.name}"
            for engine, precision in itertools.product(("tiered", "scan", "flat", "auto"), ("certified", "probabilistic")):
                if engine == "scan" and precision == "probabilistic":
                    continue
                out.append((f"{c.name} {engine} {precision}", self.query(c, f"engine={engine}&precision={precision}")))
            for task in c.tasks:
                for engine in ("tiered", "scan"):
                    out.append((f"{c.name} task {engine}", self.query(c, f"engine={engine}&task={task}", task)))
            for half in (0, 1):
                out.append((f"{c.name} filter", self.query(c, f"filter=meta.half%20%3D%20{half}", half=half)))
            if c.like is not None:
                out.append((f"{c.name} like", self.query(c, f"like={c.ids()[7]}", like=True)))
            out += [(f"{c.name} scores", self.scores(c)), (f"{c.name} pages", self.pages(c)),
                    (f"{c.name} search", self.search(c)), (f"{c.name} corpus", self.corpus(c))]
            for i in range(0, len(c.examples), 17):
                out.append((f"{c.name} example {i}", self.example(c, i)))
            out.append((f"{c.name} tasks", self.plain(path + "/tasks", lambda a, c=c: [t["name"] for t in a["tasks"]] == c.tasks)))
        out.append(("saved", self.plain("/v1/corpora/w/queries/kept", lambda a: a["prompt"] == "who")))
        return out

    def ask(self, reply):
        if reply.status == 500:
            told = reply.json()
            hold(told["code"] == "corrupt" and told["detail"], "an error that names nothing:", reply)
            raise Named(told["detail"])
        return good(reply, 200)

    def lost(self, c, answer):
        """The ids that an answer says it leaves out."""
        if not answer.get("partial"):
            hold("damaged" not in answer, "damaged without partial")
            return set()
        names = set(answer["damaged"]["ids"])
        hold(names and names <= set(c.ids()), "damaged ids that were never there", sorted(names)[:5])
        return names

    def text(self, c, e):
        """True when its text is told of as damaged."""
        if e.get("damaged") == "texts":
            hold(e["text"] is None and e["meta"] is None, "a damaged text is there")
            return True
        want = c.examples[int(e["id"][1:])]
        same((e["text"], e["meta"]), (want["text"], want["meta"]), "text of", e["id"])
        return False

    def query(self, c, words, task=None, half=None, like=False):
        body = None if like else h.queries(c.q)
        table = c.like if like else c.scores[task]

        def run(client):
            reply = client.post(f"/v1/corpora/{c.name}/query?k=12&opponents=12&{words}", body)
            if like and reply.status == 404:
                raise Missed(words)
            answer = self.ask(reply).json()
            lost = self.lost(c, answer)
            ids, sequences = c.ids(), c.sequences()
            keep = np.array([name not in lost and (half is None or int(name[1:]) % 2 == half) for name in ids])
            same(answer["examples"], int(keep.sum()), "the number of examples")
            partial = bool(lost)
            for s, result in zip(table, answer["results"]):
                at = np.flatnonzero(keep)
                for end, order in (("proponents", np.lexsort((sequences[at], -s[at]))), ("opponents", np.lexsort((sequences[at], s[at])))):
                    want = [(ids[i], float(s[i]), int(sequences[i])) for i in at[order[:12]]]
                    same([(p["id"], p["score"], p["sequence"]) for p in result[end]], want, end)
                    for p in result[end]:
                        partial |= self.text(c, p)
            return partial
        return run

    def scores(self, c):
        def run(client):
            parts, meta = h.read_tensors(self.ask(client.post(f"/v1/corpora/{c.name}/scores?dtype=f64", h.queries(c.q))).body)
            ids = parts["ids"][1].tobytes().decode("utf-8", "replace").split("\n")[:-1]
            have = {name: i for i, name in enumerate(c.ids())}
            hold(set(ids) <= set(have), "scores of unknown ids")
            same(len(ids) + int(meta.get("damaged", 0)), len(have), "scored and damaged together")
            at = [have[name] for name in ids]
            hold(at == sorted(at) and parts["scores"][1].tobytes() == c.scores[None][:, at].tobytes(), "other scores")
            return len(ids) < len(have)
        return run

    def pages(self, c):
        def run(client):
            answer = self.ask(client.get(f"/v1/corpora/{c.name}/examples?limit=1000")).json()
            lost = self.lost(c, answer)
            same([e["id"] for e in answer["examples"]], [i for i in c.ids() if i not in lost], "the page")
            return any([self.text(c, e) for e in answer["examples"]]) or bool(lost)
        return run

    def search(self, c):
        def told(answer):
            return [(e["id"], e["score"], e["text"]) for e in answer["results"]]

        def run(client):
            answer = self.ask(client.post(f"/v1/corpora/{c.name}/search", {"text": "delta golf", "k": 30})).json()
            if answer.get("partial") or answer["missing"]:
                for e in answer["results"]:
                    self.text(c, e)
                return True
            if any(e.get("damaged") for e in answer["results"]):
                return True
            same(told(answer), told(c.found), "the search")
            return False
        return run

    def corpus(self, c):
        def run(client):
            answer = self.ask(client.get(f"/v1/corpora/{c.name}")).json()
            same((answer["examples"], answer["manifest"]["dim"], answer["whitened"]), (len(c.ids()), c.dim, c.name == "w"), "the corpus")
        return run

    def example(self, c, i):
        def run(client):
            name = f"{c.name}{i}"
            reply = client.get(f"/v1/corpora/{c.name}/examples/{name}")
            if reply.status == 404:
                if c.live[i]:
                    raise Missed(name)
                return False
            answer = self.ask(reply).json()
            same((answer["id"], answer["sequence"]), (name, i), "an example")
            hold(c.live[i], "an example that was taken down is back:", name)
            partial = self.text(c, answer)
            if c.name != "w":
                stored, norms = h.normalise(c.x[i], c.dtype)
                same(answer["norm"], float(norms[0]), "norm")
                same(self.ask(client.get(f"/v1/corpora/{c.name}/examples/{name}/encoding")).body[-stored.nbytes:], stored.tobytes(), "encoding")
            return partial
        return run

    def plain(self, path, right):
        def run(client):
            answer = self.ask(client.get(path)).json()
            hold(right(answer), path, "answers", answer)
        return run


# ---- damage --------------------------------------------------------------------------------------

def damage(path, dice):
    """Changes some bytes of the file in place; says what."""
    size = os.path.getsize(path)
    with open(path, "r+b") as f:
        kind, at = dice.choice(("bit", "bit", "bit", "byte", "page", "zero", "swap")), dice.randrange(size)
        page = at // PAGE * PAGE
        f.seek(page)
        old = f.read(PAGE)
        if kind == "bit" or kind == "byte":
            one = old[at - page] ^ (1 << dice.randrange(8) if kind == "bit" else dice.randrange(1, 256))
            new, where = bytes([one]), at
        elif kind == "page":
            new, where = dice.randbytes(len(old)), page
        elif kind == "zero":
            new, where = bytes(len(old)), page
        else:
            other = dice.randrange(size) // PAGE * PAGE
            f.seek(other)
            new, where = f.read(len(old)), page
            f.seek(other)
            f.write(old[:len(new)])
        f.seek(where)
        f.write(new)
    return f"{kind} at {at}"


class Trial:
    """One damage: what was met."""

    def __init__(self, template, base, seed, mode):
        self.t, self.mode, self.dice = template, mode, random.Random(seed)
        self.store = os.path.join(base, "damaged")
        self.met = set()

    def run(self):
        shutil.rmtree(self.store, ignore_errors=True)
        shutil.copytree(self.t.store, self.store)
        sizes = [os.path.getsize(os.path.join(self.store, f)) for f in self.t.files]
        by_size = self.dice.random() < 0.5
        self.file = self.dice.choices(self.t.files, sizes if by_size else None)[0]
        path = os.path.join(self.store, self.file)
        server = h.Server(self.store, ["--recheck-s", "1" if self.mode == "recheck" else "0"])
        try:
            self.try_on(server, path)
        finally:
            if server.process is not None:  # what went wrong is on its way up
                server.process.kill()
                server.process.wait()
        if self.met:
            self.verify()

    def try_on(self, server, path):
        if self.mode == "closed":
            self.what = damage(path, self.dice)
        if not self.start(server):
            return
        client = l.Steady(server, key=self.key())
        if self.mode in ("warm", "recheck"):
            self.ask_all(client, self.t.asks)
        if self.mode != "closed":
            self.what = damage(path, self.dice)
        if self.mode == "recheck":
            time.sleep(ROUND_S)
        asks = list(self.t.asks)
        self.dice.shuffle(asks)
        alive = self.ask_all(client, asks, server)
        client.close()
        if alive:
            server.process.terminate()
            alive = server.process.wait(600) == 0
        self.ended(server, alive)

    def key(self):
        with open(os.path.join(self.t.store, "admin.key"), encoding="ascii") as f:
            return f.read().strip()

    def start(self, server):
        try:
            server.start(create=False, timeout=600)  # a machine may stand still for minutes
            return True
        except AssertionError as fault:
            code = server.process.wait()
            server.process = None
            hold(code == NO_STORE and "ascribed: " in str(fault), fault)
            self.met.add("refused")
            return False

    def ask_all(self, client, asks, server=None):
        for name, ask in asks:
            try:
                if ask(client):
                    self.met.add("partial")
            except Missed:
                self.met.add("missed")
            except Named:
                self.met.add("named")
            except GONE:
                hold(server and server.process.wait(600) is not None, "no answer to", name)
                return False
            except l.Violation as fault:
                if server and not server.alive():
                    return False
                if self.unauthorized(fault):
                    self.met.add("refused")
                    return True
                raise l.Violation(f"{name}: {fault}") from fault
        return True

    def unauthorized(self, fault):
        """Keys are records of the ledger as well: one that is damaged opens nothing."""
        return "status 401" in str(fault) and self.file.startswith("ledger")

    def ended(self, server, well):
        """A live one may meet pages that lead LMDB astray, and ends then; never by a check of its own."""
        code = server.process.wait()
        server.reader.join(10)
        server.process = None
        found = h.REPORTS.search("\n".join(server.log))
        hold(not found, "the server says", found and found.string[found.start() - 99:][:300])
        if not well:
            hold(self.mode != "closed" and (code < 0 or code == MAP_FAILED), "the server ended with", code, server.tail(9))
            self.met.add("ended")

    def verify(self):
        done = h.offline("verify", "--store", self.store)
        hold(done.returncode in (1, 3), "answers show damage that verify does not find:", self.met, done.stdout[-800:])


MODES = ("closed", "live", "warm", "recheck")


def campaign(flips, seconds, seed, mode, scratch, book):
    begin, base = time.monotonic(), tempfile.mkdtemp(prefix="served-", dir=scratch)
    template = Template(seed, base)
    counts, done, wrong = dict.fromkeys(("refused", "named", "partial", "missed", "ended", "harmless"), 0), 0, []
    try:
        while done < flips and time.monotonic() - begin < seconds:
            trial = Trial(template, base, seed * 1000003 + done, mode)
            try:
                trial.run()
            except l.Violation as fault:
                wrong.append(f"{mode}, seed {seed}, flip {done}, {trial.file}, {trial.what}: {fault}")
                print("served.py:", wrong[-1][:1500], file=sys.stderr, flush=True)
            done += 1
            for word in trial.met or ("harmless",):
                counts[word] += 1
    finally:
        shutil.rmtree(base)
    return l.record(f"served-{mode}", seed, done, len(wrong), time.monotonic() - begin, book,
                    questions=len(template.asks), **counts), wrong


def main():
    parser = argparse.ArgumentParser(description="Changes files under and before a server, and asks it everything.")
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--mode", choices=MODES, default="closed")
    parser.add_argument("--scratch", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--book", help="append the result to this file")
    args = parser.parse_args()
    line, _ = campaign(args.flips, args.seconds, args.seed, args.mode, args.scratch, args.book)
    return 1 if line["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
