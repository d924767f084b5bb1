"""test_crash.py - kill -9 at random moments, and what must hold after it (promises P1, P2, P5, P6).

The ledger client writes what it intends and what was acknowledged to files of its own, each line synced
before the next step; the checker compares them with the reopened store:
  acknowledged is a subset of present, present a subset of intended, every batch all or nothing,
  no id twice, every stored vector the one that was sent, queries equal brute force.

ASCRIBE_KILLS (default 50) is the number of kills, ASCRIBE_SEED the seed of their moments.
"""
import http.client
import os
import random
import shutil
import statistics
import struct
import subprocess
import threading
import time

import numpy as np

import harness as h

KILLS = int(os.environ.get("ASCRIBE_KILLS", "50"))
SEED = int(os.environ.get("ASCRIBE_SEED", "7171"))
READY_SECONDS = 1.0 * h.SLOW  # P5
DIM, ROWS, CLIENTS = 96, 6, 4


def vectors(batch):
    """The gradients of batch number `batch`: a function of the number, so nothing need be remembered."""
    return np.random.default_rng([SEED, batch]).standard_normal((ROWS, DIM)).astype("<f4")


def ids(batch):
    return [f"b{batch}-r{i}" for i in range(ROWS)]


def examples(batch):
    return [{"id": i, "text": f"text of {i} " + "x" * (batch % 50), "meta": {"batch": batch}} for i in ids(batch)]


class Ledger:
    """What a client was told, on a disk that nobody kills: one synced line an event."""

    def __init__(self, path):
        self.file = open(path, "a+", encoding="ascii")
        self.lock = threading.Lock()

    def write(self, word, batch):
        with self.lock:
            self.file.write(f"{word} {batch}\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def read(self):
        """{word: set of batch numbers}."""
        with self.lock:
            self.file.seek(0)
            out = {"intend": set(), "ack": set(), "delete": set(), "deleted": set()}
            for line in self.file:
                word, batch = line.split()
                out[word].add(int(batch))
            return out


class Writers:
    """Clients that ingest batches as fast as they are acknowledged, and resend what was not."""

    def __init__(self, ledger, test):
        self.ledger, self.test = ledger, test
        self.lock, self.next, self.pending, self.stop = threading.Lock(), 0, [], False
        self.resent = self.already = 0
        self.faults = []  # what a client met that it must not: the test fails with it

    def take(self):
        with self.lock:
            if self.pending:
                self.resent += 1
                return self.pending.pop(0)
            self.next += 1
            batch = self.next
        self.ledger.write("intend", batch)
        return batch

    def run(self, server):
        try:
            self.client(server)
        except Exception as fault:  # a thread's own exception would be printed and forgotten
            self.faults.append(repr(fault))

    def client(self, server):
        """One client until the server dies or stop is set. A batch without an answer stays pending."""
        client = server.client(timeout=30)
        while not self.stop:
            batch = self.take()
            try:
                reply = client.put(f"/v1/corpora/c/batches/b{batch}", h.batch(vectors(batch), examples(batch)))
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.pending.append(batch)
                return
            if reply.status == 503:
                with self.lock:
                    self.pending.append(batch)
                continue
            assert reply.status in (200, 201), reply
            told = reply.json()
            assert (told["batch"], told["examples"], told["duplicates"]) == (f"b{batch}", ROWS, 0), reply
            self.already += reply.status == 200
            self.ledger.write("ack", batch)
        client.close()


def present(test, client):
    """{id: example} of everything in the corpus, by pages; no id twice, sequences ascending."""
    out, after, last = {}, None, -1
    while True:
        page = test.assert_status(client.get("/v1/corpora/c/examples?limit=1000" + (f"&after={after}" if after else "")), 200).json()
        for e in page["examples"]:
            test.assertNotIn(e["id"], out)
            test.assertGreater(e["sequence"], last)
            last = e["sequence"]
            out[e["id"]] = e
        after = page["next"]
        if after is None:
            return out


class Crash(h.Case):
    def start(self, server, times):
        """Starts and notes how long it took to be ready, from exec."""
        server.start(create=not os.path.isdir(os.path.join(server.store, "ledger")))
        times.append(server.ready_seconds)
        return server

    def check(self, server, ledger, deep):
        """The checker. deep: every vector's bytes and a query against brute force as well."""
        client, said = server.client(), ledger.read()
        have = present(self, client)
        batches = {}
        for i in have:
            batches.setdefault(int(i[1:].split("-")[0]), set()).add(i)
        self.assertLessEqual(set(batches), said["intend"], "present but never sent")
        for batch, found in batches.items():
            if batch not in said["delete"]:
                self.assertEqual(found, set(ids(batch)), f"batch {batch} is half there")
        lost = said["ack"] - set(batches) - said["delete"]
        self.assertFalse(lost, f"acknowledged and gone: {sorted(lost)[:10]}")
        stats = client.get("/v1/corpora/c").json()
        self.assertEqual(stats["examples"], len(have))
        if deep:
            self.check_deep(client, have)
        client.close()
        return len(have), len(said["ack"])

    def check_deep(self, client, have):
        order = sorted(have.values(), key=lambda e: e["sequence"])
        made = {}
        oracle = h.Oracle(DIM)
        rows = []
        for e in order:
            batch, row = (int(v[1:]) for v in e["id"].split("-"))
            if batch not in made:
                made[batch] = h.normalise(vectors(batch))
            unit, norms = made[batch]
            rows.append(unit[row])
            want = examples(batch)[row]
            self.assertEqual((e["text"], e["meta"]), (want["text"], want["meta"]))
            self.assertEqual(struct.pack("<d", e["norm"]), struct.pack("<d", norms[row]))
        if not rows:
            return
        oracle.rows, oracle.ids = np.array(rows), [e["id"] for e in order]
        oracle.sequences = np.array([e["sequence"] for e in order])
        q = np.random.default_rng(1).standard_normal((3, DIM)).astype("<f4")
        got = self.assert_status(client.post("/v1/corpora/c/query?k=20&opponents=20&text=0", h.queries(q)), 200).json()
        for row, result in zip(q, got["results"]):
            pro, opp = oracle.top(row, 20, 20)
            for end, want in (("proponents", pro), ("opponents", opp)):
                self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in result[end]], want)
        reply = self.assert_status(client.post("/v1/corpora/c/scores?dtype=f64", h.queries(q)), 200)
        right = np.array([oracle.scores(row) for row in q])
        self.assertEqual(h.read_tensors(reply.body)[0]["scores"][1].tobytes(), right.tobytes())

    def verify(self, store):
        done = h.offline("verify", "--store", store)
        self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])
        return done

    def test_sigkill_during_ingest(self):
        base, moments, times, after = self.scratch(), random.Random(SEED), [], []
        ledger, writers = Ledger(base + "/ledger.txt"), None
        # Small shards and chunks, so that kills meet roll-overs too.
        server = h.Server(base + "/store", ["--shard-bytes", "1M", "--chunk-bytes", "64K"])
        self.start(server, times)
        self.create(server.client(), "c", DIM)
        writers = Writers(ledger, self)
        for kill in range(KILLS):
            writers.stop = False
            threads = [threading.Thread(target=writers.run, args=(server,)) for _ in range(CLIENTS)]
            for t in threads:
                t.start()
            time.sleep(moments.random() * 0.8 * min(h.SLOW, 1.5))
            server.kill()
            for t in threads:
                t.join(60)
                self.assertFalse(t.is_alive(), "a client hangs on a dead server")
            self.assertFalse(writers.faults)
            self.start(server, after)
            self.check(server, ledger, deep=kill % 10 == 9 or kill == KILLS - 1)
        # Everything that has no answer is sent again: all of it arrives once.
        for batch in list(writers.pending):
            reply = server.client().put(f"/v1/corpora/c/batches/b{batch}", h.batch(vectors(batch), examples(batch)))
            self.assert_status(reply, 200, 201)
            ledger.write("ack", batch)
        have, acked = self.check(server, ledger, deep=True)
        self.assertEqual(have, acked * ROWS)
        self.assertEqual(have, writers.next * ROWS)
        shards = server.client().get("/v1/corpora/c").json()["shards"]
        server.stop()
        self.verify(server.store)
        print(f"figure: {KILLS} kills during ingest: {acked} batches acknowledged, 0 lost, {writers.resent} resent, "
              f"{writers.already} of them were there, {shards} shards; ready p50 {statistics.median(after) * 1e3:.0f} ms, "
              f"max {max(after) * 1e3:.0f} ms")
        self.assertLess(max(after), READY_SECONDS)

    def test_sigkill_during_deletes_and_compact(self):
        base, moments, after = self.scratch(), random.Random(SEED + 1), []
        ledger = Ledger(base + "/ledger.txt")
        server = h.Server(base + "/store", ["--shard-bytes", "1M", "--chunk-bytes", "64K"])
        self.start(server, after)
        client = server.client()
        self.create(client, "c", DIM)
        batches = 150
        for batch in range(1, batches + 1):
            self.ingest(client, "c", f"b{batch}", vectors(batch), examples(batch))
        # A "batch" of the ledger here is one example: number * ROWS + row.
        names = [(b, r) for b in range(1, batches + 1) for r in range(ROWS)]
        moments.shuffle(names)
        kills = max(6, KILLS // 5)
        gone, at = set(), 0
        for kill in range(kills):
            client = server.client()
            if kill % 2:
                self.assert_status(client.post("/v1/admin/compact?corpus=c"), 202)
            done = threading.Event()

            def deleter():
                nonlocal at
                own = server.client()
                try:
                    while not done.is_set() and at < len(names) - 100:
                        number = names[at][0] * ROWS + names[at][1]
                        ledger.write("delete", number)
                        reply = own.delete("/v1/corpora/c/examples/" + ids(names[at][0])[names[at][1]])
                        if reply.status == 204 or reply.status == 404:  # 404: a kill took the answer away
                            ledger.write("deleted", number)
                            at += 1
                except (OSError, http.client.HTTPException):
                    pass
            thread = threading.Thread(target=deleter)
            thread.start()
            time.sleep(moments.random() * 0.3 * min(h.SLOW, 4))
            server.kill()
            done.set()
            thread.join(60)
            self.start(server, after)
            said = ledger.read()
            have = present(self, server.client())
            every = {i for b in range(1, batches + 1) for i in ids(b)}
            sure = {ids(n // ROWS)[n % ROWS] for n in said["deleted"]}
            maybe = {ids(n // ROWS)[n % ROWS] for n in said["delete"]}
            self.assertFalse(sure & set(have), "deleted, acknowledged, and back")
            self.assertFalse(every - maybe - set(have), "never deleted and gone")
            gone = every - set(have)
        done = self.wait_job(server.client(), server.client().post("/v1/admin/compact?corpus=c"), 120)
        self.assertEqual(done["state"], "succeeded", done)
        have = present(self, server.client())
        self.assertEqual(set(have), every - gone)
        self.check_deep(server.client(), have)
        self.assertEqual(server.client().get("/v1/corpora/c").json()["deleted"], 0)
        server.stop()
        self.verify(server.store)
        print(f"figure: {kills} kills during deletes and compact: {len(gone)} deleted stay deleted, {len(have)} stay; "
              f"ready max {max(after) * 1e3:.0f} ms")
        self.assertLess(max(after), READY_SECONDS)

    def test_backup_under_ingest_restores_and_verifies(self):
        base = self.scratch()
        ledger = Ledger(base + "/ledger.txt")
        server = h.Server(base + "/store", ["--shard-bytes", "1M", "--chunk-bytes", "64K"])
        self.start(server, [])
        self.create(server.client(), "c", DIM)
        writers = Writers(ledger, self)
        threads = [threading.Thread(target=writers.run, args=(server,)) for _ in range(CLIENTS)]
        for t in threads:
            t.start()
        taken = []
        try:
            for _ in range(3):
                h.wait_until(lambda: len(ledger.read()["ack"]) >= 30 * (len(taken) + 1), "batches", 60)
                before = ledger.read()["ack"]
                done = self.wait_job(server.client(), server.client().post("/v1/admin/backup"), 120)
                self.assertEqual(done["state"], "succeeded", done)
                name = next(v for v in done["result"].values() if isinstance(v, str))
                taken.append((before, ledger.read()["intend"], os.path.join(server.store, "backups", name)))
        finally:
            writers.stop = True
            for t in threads:
                t.join(60)
        self.assertFalse(writers.faults)
        self.check(server, ledger, deep=True)
        # One more backup that a kill interrupts: the store lives, and no half backup passes for one.
        server.client().post("/v1/admin/backup")
        time.sleep(0.02)
        server.kill()
        self.start(server, [])
        self.check(server, ledger, deep=False)
        server.stop()
        for n, (before, later, path) in enumerate(taken):
            target = f"{base}/restored{n}"
            h.offline("restore", "--store", target, "--from", path, check=0)
            self.verify(target)
            again = h.Server(target)
            again.start(create=False)
            client = again.client(key=server.key if not os.path.exists(target + "/admin.key") else True)
            have = present(self, client)
            found = {int(i[1:].split("-")[0]) for i in have}
            self.assertEqual(len(have), len(found) * ROWS, "half a batch in a backup")
            self.assertLessEqual(before, found, "acknowledged before the backup began, and not in it")
            self.assertLessEqual(found, later)
            self.check_deep(client, have)
            client.close()
            again.stop()
            shutil.rmtree(target)
        print(f"figure: {len(taken)} backups under ingest restored and verified, {len(have)} examples in the last")

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


if __name__ == "__main__":
    h.main()
