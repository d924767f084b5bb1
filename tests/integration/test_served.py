"""test_served.py - damage under a server: files that are cut while it reads them.

What a closed store looks like after damage is test_offline.py's; many flips at random are test_fault.py's.
"""
import os
import signal

import numpy as np

import harness as h

DIM, ROWS = 256, 600
MAP_FAILED = 6


class Cut(h.Case):
    """A file is cut under a running server. It ends at the next read of what is gone, with a line that
    names file and byte, and a code of its own; a new start names what is damaged and serves the rest."""

    def setUp(self):
        self.x = np.random.default_rng(41).standard_normal((ROWS, DIM)).astype("<f4")
        self.server = h.Server(os.path.join(self.scratch(), "store"), ["--chunk-bytes", "64K"])
        self.client = self.start(create=True)
        for name in ("hit", "other"):
            self.create(self.client, name, DIM)
            for at in range(0, ROWS, 200):
                self.ingest(self.client, name, f"b{at}", self.x[at:at + 200],
                            [{"id": f"e{i}", "text": f"the text of {i} " * 40} for i in range(at, at + 200)])
        self.oracle = h.Oracle(DIM)
        self.oracle.ingest(self.x, [f"e{i}" for i in range(ROWS)])

    def start(self, create=False):
        self.server.start(create=create)
        self.addCleanup(self.server.stop)
        client = self.server.client()
        self.addCleanup(client.close)
        return client

    def ask(self, client, corpus, more=""):
        return client.post(f"/v1/corpora/{corpus}/query?k=9&text=1{more}", h.queries(self.x[3]))

    def best(self, reply):
        return [(p["id"], p["score"], p["sequence"]) for p in reply.json()["results"][0]["proponents"]]

    def cut(self, file, to, *asks):
        """Cuts, asks until the server ends, and reads what it said last."""
        path = os.path.join(self.server.store, file)
        os.truncate(path, to)
        for ask in asks:
            try:
                ask()
            except h.http.client.HTTPException:
                break
            except OSError:
                break
        self.assertEqual(self.server.process.wait(60), MAP_FAILED, self.server.tail(9))
        self.server.reader.join(10)
        said = [line for line in self.server.log if "cannot be read at byte" in line]
        self.assertEqual(len(said), 1, self.server.tail(9))
        self.assertRegex(said[0], rf"^ascribed: {path}: cannot be read at byte \d+: it is only {to} bytes long; "
                                  rf"exit code {MAP_FAILED}, a new start names what is damaged$")
        at = int(said[0].split("at byte ")[1].split(":")[0])
        self.assertGreaterEqual(at, to)
        self.server.process = None
        self.server.assert_clean()

    def assert_rest_served(self):
        client = self.start()
        other = self.ask(client, "other")
        self.assert_status(other, 200)
        self.assertEqual(self.best(other), self.oracle.top(self.x[3], 9)[0])
        self.assertNotIn("partial", other.json())
        return client

    def test_a_shard(self):
        shard = f"shards/{sorted(os.listdir(self.server.store + '/shards'))[0]}/data.mdb"
        self.assert_status(self.ask(self.client, "hit"), 200)
        self.cut(shard, 3 * 4096, lambda: self.ask(self.client, "hit", "&engine=scan"))
        client = self.assert_rest_served()
        reply = self.ask(client, "hit")
        self.assert_status(reply, 200)
        told = reply.json()
        self.assertTrue(told["partial"])
        lost = set(told["damaged"]["ids"])
        self.assertEqual(told["damaged"]["examples"], len(lost))
        self.assertEqual(told["examples"], ROWS - len(lost))
        for name in lost:
            self.oracle.delete(name)
        self.assertEqual(self.best(reply), self.oracle.top(self.x[3], 9)[0])
        self.assert_problem(client.get("/v1/corpora/hit/examples/e7"), 500, "corrupt")

    def test_a_shard_by_its_texts(self):
        shard = f"shards/{sorted(os.listdir(self.server.store + '/shards'))[1]}/data.mdb"
        size = os.path.getsize(os.path.join(self.server.store, shard))
        self.cut(shard, size // 8192 * 4096, *[lambda i=i: self.client.get(f"/v1/corpora/other/examples/e{i}")
                                               for i in range(0, ROWS, 50)])
        client = self.start()
        self.assertEqual(self.best(self.ask(client, "hit")), self.oracle.top(self.x[3], 9)[0])
        self.assertTrue(self.ask(client, "other").json()["partial"])

    def test_the_ledger(self):
        """Nothing is served without it: the next start says what it is, and touches nothing."""
        ledger = os.path.join(self.server.store, "ledger/data.mdb")
        self.cut("ledger/data.mdb", 2 * 4096, lambda: self.client.get("/v1/corpora/hit/examples/e7"))
        with open(ledger, "rb") as f:
            before = f.read()
        done = h.subprocess.run([h.program("ascribed"), "--store", self.server.store, "--listen", "127.0.0.1:0"],
                                capture_output=True, text=True, timeout=60 * h.SLOW, stdin=h.subprocess.DEVNULL)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("ledger/data.mdb", done.stderr)
        with open(ledger, "rb") as f:
            self.assertEqual(f.read(), before)

    def test_a_signal_that_somebody_sends(self):
        self.server.process.send_signal(signal.SIGBUS)
        self.assertEqual(self.server.process.wait(60), -signal.SIGBUS)
        self.server.reader.join(10)
        self.server.process = None


if __name__ == "__main__":
    h.main()
