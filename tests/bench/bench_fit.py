#!/usr/bin/python3
"""bench_fit.py - fit, task and queries at the paper's size, measured from outside.

    tests/bench/bench_fit.py [--build DIR] [--blocks 16] [--dim 4096] [--rows 1000] [--eval 200]

A server of its own in a scratch store; rows are made up (their spectrum does not matter to the time).
Prints one line of JSON: seconds and the peak of anonymous memory of each step; what is mapped from
files (rows, whitening) is the page cache's and is not counted.
"""
import argparse
import json
import os
import sys
import tempfile
import threading
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))


class Memory:
    """Peak of anonymous resident memory of a process while inside."""

    def __init__(self, pid):
        self.path, self.peak, self.stop = f"/proc/{pid}/status", 0, threading.Event()

    def look(self):
        while not self.stop.is_set():
            with open(self.path) as f:
                now = next(int(line.split()[1]) for line in f if line.startswith("RssAnon"))
            self.peak = max(self.peak, now)
            time.sleep(0.05)

    def __enter__(self):
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("--build", default="build/release")
    for name, value in (("blocks", 16), ("dim", 4096), ("rows", 1000), ("eval", 200), ("queries", 5)):
        ask.add_argument("--" + name, type=int, default=value)
    a = ask.parse_args()
    os.environ["ASCRIBE_BUILD"] = a.build
    import harness as h

    d, rng, out = a.blocks * a.dim, np.random.default_rng(1), {}
    scale = np.logspace(0, -2, d, dtype="f4")
    rows = lambda n: (rng.standard_normal((n, d), "f4") + 0.3) * scale
    with tempfile.TemporaryDirectory(prefix="ascribe-bench-") as base:
        server = h.Server(os.path.join(base, "store"))
        server.start()
        client = server.client(timeout=600)

        def step(name, work):
            began = time.monotonic()
            with Memory(server.process.pid) as memory:
                result = work()
            out[name] = {"seconds": round(time.monotonic() - began, 2), "anon_MiB": memory.peak >> 10}
            print(name, out[name], file=sys.stderr, flush=True)
            return result

        def job(reply):
            assert reply.status == 202, reply
            where, last = reply.headers["Location"], 0
            while True:
                state = client.get(where).json()
                state = state.get("job", state)
                if state["state"] in ("succeeded", "failed", "cancelled"):
                    assert state["state"] == "succeeded", state
                    return state
                if time.monotonic() - last > 20:
                    last = time.monotonic()
                    print("  ", state["progress"], state["eta_s"], file=sys.stderr, flush=True)
                time.sleep(0.2)

        def ingest(first, count):
            g = rows(count)
            reply = client.put(f"/v1/corpora/c/batches/b{first}",
                               h.batch(g, [{"id": f"e{first + i}"} for i in range(count)]))
            assert reply.status == 201, reply

        def ask_all(q, more=""):
            for i in range(a.queries):
                reply = client.post(f"/v1/corpora/c/query?k=10{more}", h.queries(q[i:i + 1]), type=h.TENSORS)
                assert reply.status == 200, reply

        reply = client.put("/v1/corpora/c", {"dim": d, "blocks": [{"name": f"b{i}", "dim": a.dim}
                                                                 for i in range(a.blocks)]})
        assert reply.status == 201, reply
        together = max(1, (200 << 20) // (4 * d))
        step("ingest", lambda: [ingest(k, min(together, a.rows - k)) for k in range(0, a.rows, together)])
        q = rows(a.queries)
        step("query_before", lambda: ask_all(q))
        step("fit", lambda: job(client.post("/v1/corpora/c/fit")))
        step("query_first", lambda: ask_all(q))
        step("query_fitted", lambda: ask_all(q))
        step("ingest_whitened", lambda: ingest(a.rows, min(100, together)))
        evaluation = rows(a.eval)
        step("task", lambda: job(client.put("/v1/corpora/c/tasks/t?lambda=0.9",
                                            h.tensors([h.matrix("gradients", evaluation)]))))
        step("query_task_first", lambda: ask_all(q, "&task=t"))
        step("query_task", lambda: ask_all(q, "&task=t"))
        client.close()
        server.stop()
    print(json.dumps({"dim": d, "blocks": a.blocks, "rows": a.rows, "eval": a.eval,
                      "queries": a.queries, **out}))


if __name__ == "__main__":
    main()
