"""test_crash.py - kill -9 at random moments, and what must hold after it (promises P1, P2, P5, P6).

The clients and the checker are those of tests/fault (ledger.py, clients.py): what was acknowledged is a
subset of what is present, that of what was intended, every batch all or nothing, no id twice, every
score that of the vector which was sent, queries equal brute force.

ASCRIBE_KILLS (default 50) is the number of kills, ASCRIBE_SEED the seed of their moments.
"""
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time

import harness as h

sys.path.insert(0, os.path.join(h.ROOT, "tests", "fault"))
import ledger as l  # noqa: E402
import clients as c  # noqa: E402
import numpy as np  # noqa: E402

KILLS = int(os.environ.get("ASCRIBE_KILLS", "50"))
SEED = int(os.environ.get("ASCRIBE_SEED", "7171"))
READY_SECONDS = 1.0 * h.SLOW  # P5
DIM, ROWS, CLIENTS = 96, 6, 4


class Crash(h.Case):
    def begin(self):
        """A server with an empty corpus, clients, and what they know. Small shards and chunks, so that
        kills meet roll-overs too."""
        base = self.scratch()
        self.content, self.ledger = l.Content(SEED, ROWS, DIM), l.Ledger(base + "/ledger.txt")
        self.addCleanup(self.ledger.close)
        self.checker = l.Checker(self.content, self.ledger, "c")
        self.writers = c.Writers(self.content, self.ledger, CLIENTS)
        self.server = h.Server(base + "/store", ["--shard-bytes", "1M", "--chunk-bytes", "64K"]).start()
        self.addCleanup(lambda: self.server.alive() and self.server.kill())
        self.create(self.server.client(), "c", DIM)
        self.ready = []  # seconds from exec to ready, after kills
        return base

    def again(self):
        self.server.start(create=False)
        self.ready.append(self.server.ready_seconds)

    def check(self, texts=False, **sets):
        """How many examples are there, after everything was compared."""
        client = self.server.client()
        have = self.checker.check(client, texts=texts, **sets)
        client.close()
        return have

    def stop_and_verify(self):
        self.server.stop()
        self.verify(self.server.store)

    def verify(self, store):
        done = h.offline("verify", "--store", store)
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])

    def test_sigkill_during_ingest(self):
        self.begin()
        moments = random.Random(SEED)
        for kill in range(KILLS):
            self.writers.begin(self.server)
            time.sleep(moments.random() * 0.8 * min(h.SLOW, 1.5))
            self.server.kill()
            self.writers.end()
            self.again()
            self.check(texts=kill % 10 == 9 or kill == KILLS - 1)
        client = self.server.client()
        self.writers.send_again(client)
        have, acked = self.check(texts=True), len(self.ledger.get("ack"))
        self.assertEqual(have, acked * ROWS)
        self.assertEqual(have, self.writers.next * ROWS)
        shards = client.get("/v1/corpora/c").json()["shards"]
        self.stop_and_verify()
        print(f"figure: {KILLS} kills during ingest: {acked} batches acknowledged, 0 lost, {self.writers.resent} resent, "
              f"{self.writers.already} of them were there, {shards} shards; ready p50 "
              f"{statistics.median(self.ready) * 1e3:.0f} ms, max {max(self.ready) * 1e3:.0f} ms")
        self.assertLess(max(self.ready), READY_SECONDS)

    def take_down(self, names, done):
        """One thread: takedowns until the server is gone; what had no answer is asked for again."""
        client = self.server.client()
        try:
            while not done.is_set() and len(names) > 100:
                self.ledger.write("delete", names[-1])
                self.assert_status(client.delete("/v1/corpora/c/examples/" + names[-1]), 204, 404)  # 404: the second time
                self.ledger.write("deleted", names.pop())
        except l.GONE:
            pass

    def test_sigkill_during_deletes_and_compact(self):
        self.begin()
        moments, batches, kills = random.Random(SEED + 1), 150, max(6, KILLS // 5)
        client = self.server.client()
        for batch in range(1, batches + 1):
            self.ledger.write("intend", batch)
            self.assertTrue(self.writers.send(client, batch))
        names = [name for b in range(1, batches + 1) for name in self.content.ids(b)]
        moments.shuffle(names)
        for kill in range(kills):
            if kill % 2:
                self.assert_status(self.server.client().post("/v1/admin/compact?corpus=c"), 202)
            done = threading.Event()
            thread = threading.Thread(target=self.take_down, args=(names, done))
            thread.start()
            time.sleep(moments.random() * 0.3 * min(h.SLOW, 4))
            self.server.kill()
            done.set()
            c.join(thread, 60, "a client of a dead server")
            self.again()
            before = self.check()
        client = self.server.client()
        self.assertEqual(self.wait_job(client, client.post("/v1/admin/compact?corpus=c"), 120)["state"], "succeeded")
        have = self.check(texts=True)
        self.assertEqual(have, before)
        self.assertEqual(client.get("/v1/corpora/c").json()["deleted"], 0)
        self.stop_and_verify()
        print(f"figure: {kills} kills during deletes and compact: {batches * ROWS - have} deleted stay deleted, {have} "
              f"stay; ready max {max(self.ready) * 1e3:.0f} ms")
        self.assertGreater(batches * ROWS - have, kills)
        self.assertLess(max(self.ready), READY_SECONDS)

    def test_backup_under_ingest_restores_and_verifies(self):
        base, taken = self.begin(), []
        self.writers.begin(self.server)
        try:
            for n in range(1, 4):
                h.wait_until(lambda: len(self.ledger.get("ack")) >= 30 * n, "batches", 60)
                before, client = self.ledger.get("ack"), self.server.client()
                job = self.wait_job(client, client.post("/v1/admin/backup"), 120)
                self.assertEqual(job["state"], "succeeded", job)
                taken.append((c.backup_of(job), before, self.ledger.get("intend")))
        finally:
            self.writers.end()
        self.check(texts=True)
        # One more backup that a kill interrupts: the store lives, and no half backup passes for one.
        self.server.client().post("/v1/admin/backup")
        time.sleep(0.02)
        self.server.kill()
        self.again()
        self.check()
        key = self.server.key
        self.server.stop()
        for n, (name, before, later) in enumerate(taken):
            target = f"{base}/restored{n}"
            h.offline("restore", "--store", target, "--from", f"{self.server.store}/backups/{name}", check=0)
            self.verify(target)
            again = h.Server(target).start(create=False)
            client = again.client(key=True if os.path.exists(target + "/admin.key") else key)
            have = self.checker.check(client, acked=before, intended=later, texts=True)
            client.close()
            again.stop()
            shutil.rmtree(target)
        print(f"figure: {len(taken)} backups under ingest restored and verified, {have} examples in the last")

    def test_sigkill_at_the_first_start(self):
        """A kill while the store is being made leaves something that the next start makes whole."""
        moments = random.Random(SEED + 2)
        for attempt in range(8):
            store = self.scratch() + "/store"
            server = h.Server(store)
            command = [h.program("ascribed"), "--store", store, "--create", "--listen", "127.0.0.1:0"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            time.sleep(moments.random() * 0.06)
            process.kill()
            process.wait()
            server.start()
            self.assert_status(server.client().put("/v1/corpora/c", {"dim": 2}), 201)
            server.stop()
            self.verify(store)

    def test_second_server_on_one_store_is_refused(self):
        server = self.serve()
        with self.assertRaisesRegex(AssertionError, "before it was ready"):
            h.Server(server.store).start(create=False)
        self.assert_status(server.client().get("/readyz"), 200)


class FullDisk(h.Case):
    """A disk that fills up: writers are told 507, readers go on, and writing goes on when there is room."""

    def small_disk(self, size):
        where = self.scratch()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "ascribe-test", where], capture_output=True).returncode:
            self.skipTest("cannot mount a small tmpfs here")
        self.addCleanup(subprocess.run, ["umount", where], check=True)
        return where

    def test_full_then_freed(self):
        where = self.small_disk("24m")
        ballast = where + "/ballast"
        with open(ballast, "wb") as f:
            f.write(b"x" * (10 << 20))
        server = self.serve(store=where + "/store")
        client = server.client()
        dim, oracle = 4096, h.Oracle(4096)
        self.create(client, "c", dim)
        x = np.random.default_rng(3).standard_normal((64, dim)).astype("<f4")
        taken, refused = 0, 0
        for n in range(40):
            body, names = h.batch(x * (n + 1), [f"{n}-{i}" for i in range(64)]), [f"{n}-{i}" for i in range(64)]
            reply = client.put(f"/v1/corpora/c/batches/b{n}", body)
            if reply.status == 201:
                self.assertEqual(refused, 0, "taken after a refusal, with nothing freed")
                oracle.ingest(x * (n + 1), names)
                taken += 1
                continue
            self.assert_problem(reply, 507, "storage_full")
            refused += 1
            got = client.post("/v1/corpora/c/query?k=5", h.queries(x[0])).json()["results"][0]["proponents"]
            self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in got], oracle.top(x[0], 5)[0])
            if refused == 3:
                break
        self.assertGreater(taken, 0)
        self.assertEqual(refused, 3)
        os.unlink(ballast)
        reply = client.put(f"/v1/corpora/c/batches/b{n}", body)  # the same request, unchanged
        self.assert_status(reply, 201)
        oracle.ingest(x * (n + 1), names)
        got = client.post("/v1/corpora/c/query?k=5", h.queries(x[0])).json()["results"][0]["proponents"]
        self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in got], oracle.top(x[0], 5)[0])
        self.assertEqual(client.get("/v1/corpora/c").json()["examples"], len(oracle.ids))
        client.close()
        server.stop()
        h.offline("verify", "--store", server.store, check=0)

    def test_jobs_on_a_full_disk(self):
        """Each job fails by name and leaves nothing behind; takedowns are told, too; all succeed once there is room."""
        where = self.small_disk("24m")
        server = self.serve(store=where + "/store")
        client, dim, oracle = server.client(), 512, h.Oracle(512)
        self.create(client, "c", dim)
        x, names = np.random.default_rng(4).standard_normal((600, dim)).astype("<f4"), [f"e{i}" for i in range(600)]
        self.ingest(client, "c", "all", x, names)
        oracle.ingest(x, names)
        self.assert_status(client.delete("/v1/corpora/c/examples/e0"), 204)
        oracle.delete("e0")
        jobs = ("/v1/admin/backup", "/v1/admin/compact?corpus=c", "/v1/corpora/c/fit")
        with open(where + "/ballast", "wb", buffering=0) as f:
            with self.assertRaisesRegex(OSError, "No space left"):
                while True:
                    f.write(b"x" * 4096)
        for path in jobs:
            reply = client.post(path)
            if reply.status == 202:  # otherwise it was refused at once
                job = self.wait_job(client, reply)
                self.assertEqual((job["state"], job["error"]["code"]), ("failed", "storage_full"), path)
            else:
                self.assert_problem(reply, 507, "storage_full")
            got = client.post("/v1/corpora/c/query?k=5", h.queries(x[1])).json()["results"][0]["proponents"]
            self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in got], oracle.top(x[1], 5)[0], path)
        reply = client.delete("/v1/corpora/c/examples/e1")
        self.assertIn(reply.status, (204, 507), repr(reply))
        os.unlink(where + "/ballast")
        if reply.status == 507:
            self.assert_status(client.delete("/v1/corpora/c/examples/e1"), 204)
        oracle.delete("e1")
        for path in jobs:
            job = self.wait_job(client, client.post(path))
            self.assertEqual(job["state"], "succeeded", job)
        got = client.get("/v1/corpora/c").json()
        self.assertEqual((got["examples"], got["deleted"], got["whitened"]), (598, 0, True))
        client.close()
        server.stop()
        h.offline("verify", "--store", server.store, check=0)
        for left in os.listdir(server.store + "/backups"):
            self.assertNotIn(".part", left)
            h.offline("verify", "--store", f"{server.store}/backups/{left}", check=0)


if __name__ == "__main__":
    h.main()
