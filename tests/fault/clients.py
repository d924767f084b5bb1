"""clients.py - clients of a server that will die under them, and what they know afterwards.

Writers   threads that ingest batches of corpus `c` until the server is gone; what had no answer stays
          pending and is sent again.
White     corpus `w`: the same rows for ever, fitted and fitted again, with tasks; its scores must be
          those of TrackStar in dense float64, of one epoch or the next.
follow    a job to its end.
wait      for something, by a clock that stands still when the machine does.
"""
import threading
import time

from ledger import GONE, good, h, hold  # first: it keeps numpy to one thread

import numpy as np

WHITE_ROWS, WHITE_DIM, CLOSE = 400, 48, 2e-5


def wait(condition, seconds, what):
    """Polls until condition() is true. Only time in which this process ran counts: a machine that stood
    still for minutes is no hang of the server's."""
    left, last = seconds * h.SLOW, time.monotonic()
    while not condition():
        hold(left > 0, "waited", seconds * h.SLOW, "s for", what)
        time.sleep(0.01)
        now = time.monotonic()
        left -= min(now - last, 0.5)
        last = now


def join(thread, seconds, what):
    wait(lambda: (thread.join(0.05), not thread.is_alive())[1], seconds, what)


def follow(client, reply, ask=good):
    """The job of a 202, finished. ask(reply, *statuses) judges every answer."""
    where = ask(reply, 202).headers["Location"]
    while True:
        job = ask(client.get(where), 200).json()
        job = job.get("job", job)
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.003)


def backup_of(job):
    """The name that the server gave to a backup."""
    return next(v for v in job["result"].values() if isinstance(v, str))


class Writers:
    """`clients` threads on one server, again and again: begin, kill the server, end."""

    def __init__(self, content, ledger, clients):
        self.content, self.ledger, self.clients = content, ledger, clients
        self.lock, self.next, self.pending, self.faults = threading.Lock(), 0, [], []
        self.resent = self.already = 0
        self.stop, self.threads = False, []

    def take(self):
        with self.lock:
            if self.pending:
                self.resent += 1
                return self.pending.pop(0)
            self.next += 1
            batch = self.next
        self.ledger.write("intend", batch)
        return batch

    def send(self, client, batch):
        """False when the server is busy."""
        reply = client.put(f"/v1/corpora/c/batches/b{batch}", self.content.body(batch))
        if reply.status == 503:
            return False
        told = good(reply, 200, 201).json()
        hold((told["batch"], told["examples"], told["duplicates"]) == (f"b{batch}", self.content.rows, 0),
             "a batch answered", told)
        self.already += reply.status == 200
        self.ledger.write("ack", batch)
        return True

    def one(self, server):
        client = server.client(timeout=30)
        while not self.stop:
            batch = self.take()
            try:
                done = self.send(client, batch)
            except GONE:
                done = None
            except Exception as fault:  # a thread's own exception would be printed and forgotten
                self.faults.append(fault)
                return
            if not done:
                with self.lock:
                    self.pending.append(batch)
            if done is None:
                return
        client.close()

    def begin(self, server):
        self.stop = False
        self.threads = [threading.Thread(target=self.one, args=(server,)) for _ in range(self.clients)]
        for t in self.threads:
            t.start()

    def end(self):
        self.stop = True
        for t in self.threads:
            join(t, 60, "a client of a dead server")
        if self.faults:
            raise self.faults[0]

    def send_again(self, client):
        """What had no answer, on a server that lives: all of it arrives once."""
        for batch in self.pending:
            self.resent += 1
            wait(lambda: self.send(client, batch), 60, f"batch {batch}, sent again")
        self.pending = []


# ---- a corpus with a fit -------------------------------------------------------------------------

def hessian(rows, damping):
    g = np.asarray(rows, "f8")
    r = g.T @ g / len(g)
    return r + damping * np.trace(r) / r.shape[0] * np.eye(r.shape[0])


def cosines(r, q, rows):
    """Cosines of R^-1/2 q with R^-1/2 x for every row x."""
    values, vectors = np.linalg.eigh(r)
    root = vectors @ np.diag(values ** -0.5) @ vectors.T
    a, b = np.asarray(q, "f8") @ root, np.asarray(rows, "f8") @ root
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


class White:
    def __init__(self, seed):
        rng = np.random.default_rng([seed, 1 << 40])
        mix = rng.normal(size=(WHITE_DIM, WHITE_DIM)) * np.logspace(0, -1, WHITE_DIM)
        self.rows = (rng.normal(size=(WHITE_ROWS, WHITE_DIM)) @ mix).astype("<f4")
        self.eval = (rng.normal(size=(20, WHITE_DIM)) @ mix).astype("<f4")
        self.q = (rng.normal(size=(2, WHITE_DIM)) @ mix).astype("<f4")
        self.epoch, self.flight = 0, None  # the last fit that was told of; the damping that may have come
        self.damping, self.tasks = None, {}

    def create(self, client, ask=good):
        ask(client.put("/v1/corpora/w", {"dim": WHITE_DIM}), 200, 201)

    def fill(self, client, ask=good):
        names = [f"e{i}" for i in range(WHITE_ROWS)]
        ask(client.put("/v1/corpora/w/batches/all", h.batch(self.rows, names)), 200, 201)

    def fit(self, client, damping, ask=good):
        """Asks for a fit. The finished job; fitted() says that it was told of."""
        self.flight = damping
        return follow(client, client.post(f"/v1/corpora/w/fit?damping={damping}"), ask)

    def fitted(self):
        self.epoch, self.damping, self.flight = self.epoch + 1, self.flight, None

    def task(self, client, name, lam, ask=good):
        self.tasks.setdefault(name, set()).add(lam)
        body = h.tensors([h.matrix("gradients", self.eval)])
        return follow(client, client.put(f"/v1/corpora/w/tasks/{name}?lambda={lam}", body), ask)

    def scores(self, client, task=None):
        path = "/v1/corpora/w/scores?dtype=f64" + (f"&task={task}" if task else "")
        parts, _ = h.read_tensors(good(client.post(path, h.queries(self.q)), 200).body)
        ids = parts["ids"][1].tobytes().decode().split("\n")[:-1]
        hold(ids == [f"e{i}" for i in range(WHITE_ROWS)], "corpus w lists other rows")
        return parts["scores"][1]

    def settle(self, client):
        """Which fit there is: the last one that was told of, or the one that was asked for. Its damping."""
        fit = good(client.get("/v1/corpora/w"), 200).json()["fit"]
        epoch = fit["epoch"] if fit else 0
        hold(self.epoch <= epoch <= self.epoch + (self.flight is not None), "epoch", epoch, "after", self.epoch)
        if epoch == self.epoch + 1:
            self.damping = self.flight
        self.epoch, self.flight = epoch, None
        hold(fit is None or fit["damping"] == self.damping, "damping", fit, self.damping)
        return self.damping if fit else None

    def check(self, client):
        damping = self.settle(client)
        r = np.eye(WHITE_DIM) if damping is None else hessian(self.rows, damping)
        worst = np.abs(self.scores(client) - cosines(r, self.q, self.rows)).max()
        hold(worst < CLOSE, "scores of w are off by", worst)
        e = np.asarray(self.eval, "f8")
        for task in good(client.get("/v1/corpora/w/tasks"), 200).json()["tasks"]:
            name, lam = task["name"], task["lambda"]
            hold(lam in self.tasks.get(name, ()), "a task that nobody asked for:", name, lam)
            if task["state"] != "stale":
                want = cosines((1 - lam) * r + lam * e.T @ e / len(e), self.q, self.rows)
                worst = np.abs(self.scores(client, name) - want).max()
                hold(worst < CLOSE, "scores under", name, "are off by", worst)
