"""test_served.py - damage under a server: files that are cut while it reads them, and what is refused
until a repair.

What a closed store looks like after damage is test_offline.py's; many flips at random are test_fault.py's.
"""
import os
import signal

import numpy as np

import harness as h

DIM, ROWS = 256, 600
MAP_FAILED = 6


class Store(h.Case):
    """A server with two corpora of the same rows, and the answers it must give."""

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


class Cut(Store):
    """A file is cut under a running server. It ends at the next read of what is gone, with a line that
    names file and byte, and a code of its own; a new start names what is damaged and serves the rest."""

    def cut(self, file, to, *asks):
        """Cuts, asks until the server ends, and reads what it said last."""
        path = os.path.join(self.server.store, file)
        os.truncate(path, to)
        for ask in asks:
            try:
                ask()
            except (OSError, h.http.client.HTTPException):
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


class Damaged(Store):
    """What goes on, and what is refused, while a corpus waits for its repair."""

    def setUp(self):
        super().setUp()
        self.client.close()
        self.server.stop()

    def shard(self, place):
        return f"{self.server.store}/shards/{sorted(os.listdir(self.server.store + '/shards'))[place]}/data.mdb"

    def repair(self):
        return [h.json.loads(x) for x in h.offline("repair", "--store", self.server.store, check=0).stdout.splitlines()]

    def test_batches_go_into_a_new_shard(self):
        """The shard that would take them is gone: it is closed, the batch goes into another, and both survive."""
        os.unlink(self.shard(0))
        client = self.start()
        new = np.random.default_rng(42).standard_normal((50, DIM)).astype("<f4")
        self.ingest(client, "hit", "after", new, [f"n{i}" for i in range(50)])
        for again in range(2):
            told = self.ask(client, "hit").json()
            self.assertEqual((told["partial"], told["examples"], told["damaged"]["examples"]), (True, 50, ROWS))
            client.close()
            self.server.stop()
            if again == 0:
                client = self.start()
        self.assertEqual(self.repair()[-1]["examples_lost"], ROWS)
        client = self.start()
        told = self.ask(client, "hit").json()
        self.assertNotIn("partial", told)
        oracle = h.Oracle(DIM)
        oracle.next = ROWS
        oracle.ingest(new, [f"n{i}" for i in range(50)])
        self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in told["results"][0]["proponents"]], oracle.top(self.x[3], 9)[0])

    def test_whole_work_is_refused_until_the_repair(self):
        """Fit, tasks and compact need all of a corpus: where damage is known they say what to do, at once."""
        unit, _ = h.normalise(self.x[30])
        with open(self.shard(0), "r+b") as f:
            at = f.read().find(unit.tobytes())
            self.assertGreater(at, 0)
            f.seek(at + 77)
            f.write(bytes([unit.tobytes()[77] ^ 1]))
        client = self.start()
        self.assertEqual(self.ask(client, "hit", "&engine=scan").json()["damaged"]["ids"], ["e30"])
        task = h.tensors([h.matrix("gradients", self.x[:5])])
        for ask in (lambda c: client.post(f"/v1/corpora/{c}/fit"), lambda c: client.post(f"/v1/admin/compact?corpus={c}")):
            told = self.assert_problem(ask("hit"), 409, "corpus_damaged")
            self.assertIn("ascribed repair", told["detail"])
            self.assertIn('"e30"', told["detail"])
            self.assertEqual(self.wait_job(client, ask("other"))["state"], "succeeded")
        job = self.wait_job(client, client.post("/v1/admin/compact"))
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "corpus_damaged"))
        client.close()
        self.server.stop()
        self.repair()
        client = self.start()
        self.assertEqual(self.wait_job(client, client.post("/v1/corpora/hit/fit"))["state"], "succeeded")
        self.assertEqual(self.wait_job(client, client.put("/v1/corpora/hit/tasks/t?lambda=0.5", task))["state"], "succeeded")


if __name__ == "__main__":
    h.main()
