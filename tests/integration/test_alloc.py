"""test_alloc.py - memory that is not there: a sample of tests/fault/alloc.py and of the program `alloc`
(docs/reliability.md), and a server under a limit of the kernel's.
"""
import os
import resource
import sys
import threading
import unittest

import numpy as np

import harness as h

sys.path.insert(0, os.path.join(h.ROOT, "tests", "fault"))
import alloc  # noqa: E402

PLAIN = h.FLAVOUR in ("", "release")
STRIDE = 97


@unittest.skipUnless(PLAIN, "a sanitizer has an allocator of its own")
class Failing(h.Case):
    def test_storage(self):
        line = alloc.storage(STRIDE, 1, None)
        self.assertEqual(line["violations"], 0)
        self.assertGreater(line["n"], 50)
        print(f"figure: storage: 0 of {line['n']} failed allocations broke a promise")

    def test_server(self):
        line = alloc.sweep(None, 1, alloc.SCRATCH, None, stride=STRIDE)
        self.assertEqual(line["violations"], 0)
        self.assertGreater(line["n"], 60)
        self.assertGreater(line["refused"], 10)
        print(f"figure: server: 0 of {line['n']} failed allocations broke a promise")


@unittest.skipUnless(PLAIN, "a sanitizer has an allocator of its own")
class Limited(h.Case):
    """The limit is set on the running server (RLIMIT_DATA), a few MiB above what it has."""

    DIM, ROWS, ROOM = 4096, 256, 24 << 20

    def clamp(self, server, more):
        with open(f"/proc/{server.process.pid}/status") as f:
            data = next(int(line.split()[1]) for line in f if line.startswith("VmData"))
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, ((data << 10) + more, resource.RLIM_INFINITY))

    def test_refused_by_name_and_never_ended(self):
        server = self.serve(args=["--threads", "2"])
        client = server.client()
        self.assertEqual(client.put("/v1/corpora/c", {"dim": self.DIM}).status, 201)
        rows = np.random.default_rng(5).standard_normal((self.ROWS, self.DIM)).astype("<f4")
        first = h.batch(rows, [f"a{i}" for i in range(self.ROWS)])
        self.assertEqual(client.put("/v1/corpora/c/batches/a", first).status, 201)
        ask = h.queries(rows[:2])
        right = client.post("/v1/corpora/c/query?k=5", ask).json()["results"]
        self.clamp(server, self.ROOM)
        counts, wrong = {}, []

        def work(number):
            mine = server.client()
            for n in range(6):
                if number % 2:
                    names = [f"w{number}-{n}-{i}" for i in range(self.ROWS)]
                    reply = mine.put(f"/v1/corpora/c/batches/w{number}-{n}", h.batch(rows + number + n, names))
                else:
                    reply = mine.post("/v1/corpora/c/query?k=5", h.queries(rows))
                counts[reply.status] = counts.get(reply.status, 0) + 1
                if reply.status not in (200, 201, 503) or (reply.status == 503 and reply.json()["code"] != "busy"):
                    wrong.append(reply)

        crowd = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for t in crowd:
            t.start()
        for t in crowd:
            t.join()
        self.assertEqual(wrong, [])
        self.assertTrue(server.alive(), server.tail(20))
        self.assertGreater(counts.get(503, 0), 0, counts)
        self.clamp(server, 1 << 30)
        h.wait_until(lambda: client.post("/v1/corpora/c/query?k=5", ask).status == 200, "memory again")
        kept = client.get("/v1/corpora/c").json()["examples"]
        self.assertEqual(kept % self.ROWS, 0)
        again = client.post("/v1/corpora/c/query?k=5", ask).json()["results"]
        self.assertEqual(right[0]["proponents"][0]["id"], again[0]["proponents"][0]["id"])
        print(f"figure: 8 clients under a memory limit: {counts}")


if __name__ == "__main__":
    h.main()
