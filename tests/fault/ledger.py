"""ledger.py - what a client knows about a store that it does not trust, and the checker that compares.

Ledger    intents and acknowledgements in a file of the client's own, each line synced before the
          next step. Nothing of the content is kept: batch number and seed say all of it.
Content   gradients, ids, texts of a batch as functions of (seed, batch).
Checker   asks a running server and compares: acknowledged is within present, present within intended,
          batches whole, no id twice, deletions stay deleted, every score and the order of every answer
          equal to brute force over what the content says, bit for bit.
record    one line of tests/fault/ledger.jsonl for a campaign that ran; docs/reliability.md is made
          of that file (tests/fault/report.py).
"""
import http.client
import json
import os
import subprocess
import sys
import threading
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's: matrices here are small, the cores busy
import numpy as np  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "integration"))
import harness as h  # noqa: E402

BOOK = os.path.join(HERE, "ledger.jsonl")
# A machine may stand still for minutes, and whoever started a campaign sees it hang.
LONG = 7200  # seconds
PATIENT = [word for name in ("deadline", "head", "idle", "write") for word in (f"--{name}-ms", "3600000")]


class Violation(AssertionError):
    """A promise that did not hold."""


def hold(condition, *what):
    if not condition:
        raise Violation(" ".join(str(w) for w in what))


# ---- content -------------------------------------------------------------------------------------

class Content:
    """Batches of `rows` examples of `dim` dimensions. Batch numbers start at 1 and never come again."""

    def __init__(self, seed, rows, dim):
        self.seed, self.rows, self.dim = seed, rows, dim
        self.stored = {}  # batch -> (stored unit rows, norms), kept: the checker needs them after every kill

    def gradients(self, batch):
        return np.random.default_rng([self.seed, batch]).standard_normal((self.rows, self.dim)).astype("<f4")

    def ids(self, batch):
        return [f"b{batch}-r{i}" for i in range(self.rows)]

    def example(self, batch, row):
        return {"id": f"b{batch}-r{row}", "text": f"text {row} of {batch} " + "x" * ((batch + row) % 50),
                "meta": {"batch": batch, "even": row % 2 == 0}}

    def body(self, batch):
        return h.batch(self.gradients(batch), [self.example(batch, r) for r in range(self.rows)])

    def units(self, batch):
        if batch not in self.stored:
            self.stored[batch] = h.normalise(self.gradients(batch))
        return self.stored[batch]

    def row(self, name):
        """(batch, row) of an id; a violation when no client ever made it."""
        batch, _, row = name[1:].partition("-r")
        hold(name == f"b{batch}-r{row}" and batch.isdigit() and row.isdigit(), "an id that nobody sent:", repr(name))
        return int(batch), int(row)


# ---- the client's ledger -------------------------------------------------------------------------

class Ledger:
    """One synced line an event: `intend 7`, `ack 7`, `delete b7-r3`, `deleted b7-r3`, and so on."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="ascii")
        self.lock = threading.Lock()
        self.said = {}

    def write(self, word, value):
        with self.lock:
            self.file.write(f"{word} {value}\n")
            self.file.flush()
            os.fsync(self.file.fileno())
            self.said.setdefault(word, set()).add(value)

    def get(self, word):
        with self.lock:
            return set(self.said.get(word, ()))

    def close(self):
        self.file.close()


# ---- the checker ---------------------------------------------------------------------------------

def good(reply, *statuses):
    hold(reply.status in statuses, "status", reply.status, "is none of", statuses, reply)
    return reply


GONE = (OSError, http.client.HTTPException)  # what a client meets when its server dies


class Steady:
    """A client whose requests may be sent again: once, on a new connection, while the server lives. (A
    machine that stood still for a minute closes connections that were idle.)"""

    def __init__(self, server, key=True):
        self.server, self.client = server, server.client(key=key, timeout=600)

    def send(self, verb, *args, **kw):
        try:
            return getattr(self.client, verb)(*args, **kw)
        except GONE:
            if not self.server.alive():
                raise Violation("the server ended:\n" + self.server.tail(20))
            self.client.close()
            return getattr(self.client, verb)(*args, **kw)

    def get(self, *args, **kw):
        return self.send("get", *args, **kw)

    def post(self, *args, **kw):
        return self.send("post", *args, **kw)

    def put(self, *args, **kw):
        return self.send("put", *args, **kw)

    def delete(self, *args, **kw):
        return self.send("delete", *args, **kw)

    def close(self):
        self.client.close()


class Checker:
    """Compares one corpus with its ledger. Everything is asked over the wire."""

    def __init__(self, content, ledger, corpus):
        self.content, self.ledger, self.corpus = content, ledger, corpus
        self.questions = np.random.default_rng([content.seed, 0]).standard_normal((2, content.dim)).astype("<f4")

    def present(self, client):
        """(ids, sequences, scores) by the streamed scores: every row that lives, in ingest order."""
        reply = good(client.post(f"/v1/corpora/{self.corpus}/scores?dtype=f64", h.queries(self.questions)), 200)
        parts, _ = h.read_tensors(reply.body)
        ids = parts["ids"][1].tobytes().decode().split("\n")[:-1]
        return ids, parts["sequences"][1], parts["scores"][1]

    def check(self, client, acked=None, intended=None, engines=("auto",), texts=False):
        """The whole comparison. `acked`, `intended`: other sets than the ledger's (for a backup).
        Returns how many examples are there."""
        said = self.ledger
        acked = said.get("ack") if acked is None else acked
        intended = said.get("intend") if intended is None else intended
        maybe_gone, gone = said.get("delete"), said.get("deleted")
        ids, sequences, scores = self.present(client)
        hold(len(set(ids)) == len(ids), "an id twice")
        hold(bool(np.all(np.diff(sequences) > 0)), "sequences do not ascend")
        found = {}
        for name in ids:
            batch, row = self.content.row(name)
            found.setdefault(batch, set()).add(row)
        hold(set(found) <= intended, "present and never sent:", sorted(set(found) - intended)[:9])
        hold(not (gone & set(ids)), "deleted, acknowledged, and back:", sorted(gone & set(ids))[:9])
        missing = {}
        for name in maybe_gone:
            batch, row = self.content.row(name)
            missing.setdefault(batch, set()).add(row)
        whole = set(range(self.content.rows))
        for batch in set(found) | acked:
            absent = whole - found.get(batch, set())
            hold(absent <= missing.get(batch, set()),
                 f"batch {batch} ({'acknowledged' if batch in acked else 'not acknowledged'}) lacks rows",
                 sorted(absent)[:9])
        stats = good(client.get(f"/v1/corpora/{self.corpus}"), 200).json()
        hold(stats["examples"] == len(ids), "count", stats["examples"], "of", len(ids))
        if ids:
            self.answers(client, ids, sequences, scores, engines)
        if texts:
            self.texts(client, ids)
        return len(ids)

    def answers(self, client, ids, sequences, scores, engines):
        """Scores bit for bit, and the best and worst twenty by every engine asked for."""
        places = [self.content.row(name) for name in ids]
        rows = np.array([self.content.units(b)[0][r] for b, r in places])
        units = h.normalise(self.questions)[0]
        right = np.array([h.lane_dot(rows, q) for q in units])
        hold(right.tobytes() == scores.tobytes(), "scores are not those of the gradients that were sent")
        for engine in engines:
            reply = good(client.post(f"/v1/corpora/{self.corpus}/query?k=20&opponents=20&text=0&engine={engine}",
                                     h.queries(self.questions)), 200).json()
            hold(reply["examples"] == len(ids), "a query saw", reply["examples"], "examples of", len(ids))
            for s, result in zip(right, reply["results"]):
                for end, order in (("proponents", np.lexsort((sequences, -s))[:20]),
                                   ("opponents", np.lexsort((sequences, s))[:20])):
                    want = [(ids[i], float(s[i]), int(sequences[i])) for i in order]
                    got = [(p["id"], p["score"], p["sequence"]) for p in result[end]]
                    hold(got == want, engine, end, "are not those of brute force:", got[:3], want[:3])

    def texts(self, client, ids):
        """Every text, meta and norm, page by page; and that search by words sees all of them."""
        after, seen = None, []
        while True:
            path = f"/v1/corpora/{self.corpus}/examples?limit=1000" + (f"&after={after}" if after else "")
            page = good(client.get(path), 200).json()
            for e in page["examples"]:
                batch, row = self.content.row(e["id"])
                want = self.content.example(batch, row)
                hold((e["text"], e["meta"]) == (want["text"], want["meta"]), "text of", e["id"], "is another's")
                hold(e["norm"] == self.content.units(batch)[1][row], "norm of", e["id"], "is another's")
                seen.append(e["id"])
            after = page["next"]
            if after is None:
                break
        hold(seen == ids, "pages list other examples than scores do")
        found = good(client.post(f"/v1/corpora/{self.corpus}/search", {"text": "text", "k": 1}), 200).json()
        hold((found["matches"], found["missing"]) == (len(ids), 0), "search by words found", found, "of", len(ids))


# ---- the book ------------------------------------------------------------------------------------

def commit():
    """The commit the programs were built from, with a + when files differ from it. ASCRIBE_COMMIT says
    it where there is no repository (a build from an archive)."""
    if os.environ.get("ASCRIBE_COMMIT"):
        return os.environ["ASCRIBE_COMMIT"]

    def git(*words):
        done = subprocess.run(["git", *words], cwd=h.ROOT, capture_output=True, text=True)
        return done.stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "storage", "index", "server", "Makefile")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


COMMIT = commit()  # now: a campaign takes long, and the tree moves on


def record(kind, seed, n, violations, seconds, book=BOOK, **counts):
    """Appends what ran. n: how many faults were tried; violations: how many broke a promise."""
    line = {"kind": kind, "date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": COMMIT, "seed": seed,
            "n": n, "violations": violations, "seconds": round(seconds), **counts}
    if book:
        with open(book, "a", encoding="ascii") as f:
            f.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)
    return line
