"""test_offline.py - the daemon's verbs on a store that nobody has open, and what damage looks like.

Damage is made by hand: bytes flipped where a known vector, id or text lies, files cut or gone, a
FORMAT from the future. The server must answer rightly or name the damage (P3), and stay up.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np

import harness as h

DIM = 512


def find_in_shards(store, needle):
    """(path, offset) of the bytes in a shard's data file; exactly one place."""
    found = []
    for folder, _, files in os.walk(os.path.join(store, "shards")):
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                data = f.read()
            at = data.find(needle)
            while at >= 0:
                found.append((path, at))
                at = data.find(needle, at + 1)
    assert found, "the bytes are in no shard"
    return found[-1]


def flip(path, at, bit=1):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ bit]))


def flip_all(store, needle, offset, where="shards"):
    """One bit at `offset` from every place where the bytes stand; how many."""
    count = 0
    for base, _, names in os.walk(os.path.join(store, where)):
        for path in (os.path.join(base, n) for n in names if n == "data.mdb"):
            with open(path, "rb") as f:
                data = f.read()
            at = data.find(needle)
            while at >= 0:
                flip(path, at + offset)
                count += 1
                at = data.find(needle, at + 1)
    assert count, "the bytes are nowhere"
    return count


def tree(folder):
    """{relative path: hash} of every file."""
    out = {}
    for base, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                out[os.path.relpath(path, folder)] = hashlib.sha256(f.read()).hexdigest()
    return out


class Stopped(h.Case):
    """A store with two corpora, made by a server that has ended."""

    def setUp(self):
        self.server = h.Server(os.path.join(self.scratch(), "store"))
        self.server.start()
        client = self.server.client()
        r = np.random.default_rng(31)
        self.x = r.standard_normal((40, DIM)).astype("<f4")
        for name in ("first", "second"):
            self.create(client, name, DIM)
            self.ingest(client, name, "b1", self.x[:25], [{"id": f"{name}-{i}", "text": f"the text number {i} of {name} " * 9,
                                                           "meta": {"n": i}} for i in range(25)])
            self.ingest(client, name, "b2", self.x[25:], [f"{name}-{i}" for i in range(25, 40)])
        client.close()
        self.server.stop()
        self.store = self.server.store

    def verify(self, code):
        done = h.offline("verify", "--store", self.store, check=code)
        return json.loads(done.stdout)

    def up(self):
        self.server.start(create=False)
        self.addCleanup(self.server.stop)
        client = self.server.client()
        self.addCleanup(client.close)
        return client


class Verbs(Stopped):
    def test_verify_of_a_sound_store(self):
        before = tree(self.store)
        report = self.verify(0)
        self.assertEqual((report["rows"], report["examples"]), (80, 80))
        self.assertEqual([report[n] for n in ("damaged_blocks", "damaged_ids", "ledger_faults")], [0, 0, 0])
        self.assertEqual(report["findings"], [])
        changed = {n for n in set(before) | set(tree(self.store)) if before.get(n) != tree(self.store).get(n)}
        self.assertLessEqual({n for n in changed if "lock" not in n.lower()}, set(), "verify wrote to the store")

    def test_verbs_are_refused_while_a_server_has_the_store(self):
        client = self.up()
        for verb in (("verify",), ("backup", "--to", self.scratch() + "/b")):
            done = h.offline(verb[0], "--store", self.store, *verb[1:])
            self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
            self.assertTrue(done.stderr.strip())
        self.assert_status(client.get("/readyz"), 200)

    def test_wrong_use(self):
        """Verbs: exit 2. Serving: exit 1, before anything is opened or made."""
        for args in (("verify",), ("verify", "--stoer", "x"), ("restore", "--store", "x"), ("backup", "--store", "x"),
                     ("verify", "--store", "x", "--to", "y"), ("export", "--store", "x"), ("verify", "--store", "x", "more")):
            done = h.offline(*args)
            self.assertEqual(done.returncode, 2, f"{args}: {done.stderr}")
            self.assertTrue(done.stderr.strip(), args)
        new = self.scratch() + "/new"
        for args in (("frobnicate",), ("--listen",), ("--store",), (), ("--store", new, "--create", "--threads", "two"),
                     ("--store", new, "--create", "--listen", "nowhere"), ("--store", new, "--create", "--body-limit", "1Q"),
                     ("--store", new, "--create", "--listen", "127.0.0.1:99999"), ("--store", new, "--create", "--thraeds", "2"),
                     ("--store", new, "--create", "--config", "/nonexistent")):
            done = h.offline(*args)
            self.assertEqual(done.returncode, 1, f"{args}: {done.stderr}")
            self.assertTrue(done.stderr.strip(), args)
            self.assertFalse(os.path.exists(new), args)
        done = h.offline("--help", check=0)
        for word in ("--store", "--listen", "--threads", "verify", "restore", "exit codes"):
            self.assertIn(word, done.stdout)
        self.assertRegex(h.offline("--version", check=0).stdout, r"\d+\.\d+\.\d+")

    def test_ingest_and_export(self):
        where = self.scratch()
        paths = []
        for n in range(3):
            paths.append(f"{where}/part{n}.safetensors")
            with open(paths[-1], "wb") as f:
                f.write(h.batch(self.x[n * 10:n * 10 + 10], [{"id": f"o{i}", "text": f"öffline {i}", "meta": {"i": i}}
                                                              for i in range(n * 10, n * 10 + 10)]))
        with open(where + "/corpus.json", "w", encoding="ascii") as f:
            json.dump({"dim": DIM, "dtype": "f16"}, f)
        ingest = ("ingest", "--store", self.store, "--corpus", "third", "--definition", where + "/corpus.json", *paths)
        lines = [json.loads(line) for line in h.offline(*ingest, check=0).stdout.splitlines()]
        self.assertEqual([(x["file"], x["already"], x["examples"], x["sequence"]) for x in lines],
                         [(p, False, 10, 10 * n + 10) for n, p in enumerate(paths)])
        again = [json.loads(line) for line in h.offline(*ingest, check=0).stdout.splitlines()]
        self.assertEqual([x["already"] for x in again], [True] * 3)
        out = [json.loads(line) for line in h.offline("export", "--store", self.store, "--corpus", "third", check=0).stdout.splitlines()]
        self.assertEqual(out, [{"id": f"o{i}", "text": f"öffline {i}", "meta": {"i": i}} for i in range(30)])
        with open(paths[0], "r+b") as f:
            f.write(b"\xff" * 8)
        done = h.offline(*ingest[:5], paths[0])
        self.assertEqual(done.returncode, 1)
        self.assertIn(paths[0], done.stderr)
        self.verify(0)
        client = self.up()
        oracle = h.Oracle(DIM, "f16")
        oracle.ingest(self.x[:30], [f"o{i}" for i in range(30)])
        got = client.post("/v1/corpora/third/query?k=30", h.queries(self.x[35])).json()["results"][0]["proponents"]
        self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in got], oracle.top(self.x[35], 30)[0])

    def test_backup_and_restore(self):
        copy, again = self.scratch() + "/copy", self.scratch() + "/again"
        h.offline("backup", "--store", self.store, "--to", copy, check=0)
        done = h.offline("backup", "--store", self.store, "--to", copy)
        self.assertEqual(done.returncode, 1, "a backup over a backup")
        h.offline("restore", "--store", again, "--from", copy, check=0)
        self.assertEqual(h.offline("restore", "--store", again, "--from", copy).returncode, 1, "a restore over a store")
        h.offline("verify", "--store", again, check=0)
        answers = []
        for store in (self.store, again):
            server = h.Server(store)
            server.start(create=False)
            client = server.client(key=server.key if os.path.exists(store + "/admin.key") else self.server.key)
            answers.append([client.post(f"/v1/corpora/{c}/query?k=40&opponents=40", h.queries(self.x[:3])).json()["results"]
                            for c in ("first", "second")])
            answers[-1].append(client.get("/v1/corpora/first/examples").json())
            client.close()
            server.stop()
        self.assertEqual(answers[0], answers[1])

    def test_backups_share_what_is_sealed(self):
        """Online, beside ingest: the second backup costs what came since; each restores without the other."""
        server = h.Server(self.store, ("--shard-bytes", "300K"))
        server.start(create=False)
        self.addCleanup(server.stop)
        client = server.client()
        self.addCleanup(client.close)
        more = np.random.default_rng(8).standard_normal((400, DIM)).astype("<f4")
        for b in range(8):
            self.ingest(client, "first", f"m{b}", more[b * 50:b * 50 + 50], [f"m{b * 50 + i}" for i in range(50)])
        one = self.wait_job(client, client.post("/v1/admin/backup"))["result"]
        self.assertEqual((one["base"], one["shards_linked"], one["bytes_linked"]), (None, 0, 0))
        self.ingest(client, "first", "n", self.x[:5], ["n0", "n1", "n2", "n3", "n4"])
        two = self.wait_job(client, client.post("/v1/admin/backup"))["result"]
        self.assertEqual(two["base"], one["name"])
        self.assertGreaterEqual(two["shards_linked"], 3)
        whole = self.wait_job(client, client.post("/v1/admin/backup?base=none"))["result"]
        self.assertEqual((whole["base"], whole["shards_linked"]), (None, 0))
        third = self.wait_job(client, client.post(f"/v1/admin/backup?base={one['name']}"))["result"]
        self.assertEqual(third["base"], one["name"])
        self.assert_problem(client.post("/v1/admin/backup?base=../x"), 400, "invalid_request", field="base")
        self.assertEqual(self.wait_job(client, client.post("/v1/admin/backup?base=20200101T000000Z-1"))["state"], "failed")
        shutil.rmtree(f"{self.store}/backups/{one['name']}")
        for backup in (two, third):
            again = self.scratch() + "/again"
            h.offline("restore", "--store", again, "--from", f"{self.store}/backups/{backup['name']}", check=0)
            self.assertEqual(json.loads(h.offline("verify", "--store", again, check=0).stdout)["examples"], 485)

    def test_a_backup_takes_a_name_that_is_free(self):
        """A server that is killed after a backup and starts within the same second makes another name."""
        server = h.Server(self.store)
        server.start(create=False)
        self.addCleanup(server.stop)
        client = server.client()
        now = time.time()
        taken = {time.strftime("%Y%m%dT%H%M%SZ-1", time.gmtime(now + s)) for s in range(60)}
        for name in taken:
            os.makedirs(f"{self.store}/backups/{name}")
        job = self.wait_job(client, client.post("/v1/admin/backup?base=none"))
        self.assertEqual(job["state"], "succeeded", job)
        self.assertRegex(job["result"]["name"], r"^\d{8}T\d{6}Z-2$")
        client.close()

    def test_a_backup_with_a_flipped_bit_does_not_restore(self):
        copy, target = self.scratch() + "/copy", self.scratch() + "/target"
        h.offline("backup", "--store", self.store, "--to", copy, check=0)
        unit, _ = h.normalise(self.x[7])
        flip(*find_in_shards(copy, unit.tobytes()))
        done = h.offline("restore", "--store", target, "--from", copy)
        self.assertNotEqual(done.returncode, 0)
        self.assertFalse(os.path.exists(target), "a damaged backup became a store")


class Damage(Stopped):
    def oracle(self, corpus, without=()):
        oracle = h.Oracle(DIM)
        oracle.ingest(self.x, [f"{corpus}-{i}" for i in range(40)])
        for name in without:
            oracle.delete(name)
        return oracle

    def assert_right(self, client, corpus, lost=(), more="&engine=scan"):
        """Exact over what is left, which is named when it is not all."""
        for q in range(3):
            reply = client.post(f"/v1/corpora/{corpus}/query?k=40&opponents=3{more}", h.queries(self.x[q]))
            self.assert_status(reply, 200)
            answer, right = reply.json(), self.oracle(corpus, lost).top(self.x[q], 40, 3)
            for name, want in zip(("proponents", "opponents"), right):
                self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in answer["results"][0][name]], want, name)
            self.assertEqual(answer.get("partial", False), bool(lost))
            self.assertEqual(answer["examples"], 40 - len(lost))
            if lost:
                self.assertEqual(sorted(answer["damaged"]["ids"]), sorted(lost))
                self.assertEqual(answer["damaged"]["examples"], len(lost))
        return answer

    def repair(self, code=0):
        lines = [json.loads(x) for x in h.offline("repair", "--store", self.store, check=code).stdout.splitlines()]
        with open(self.store + "/lost.jsonl", encoding="utf-8") as f:
            self.assertEqual([json.loads(x) for x in f][-len(lines) + 1:], lines[:-1])
        return lines[:-1], lines[-1]

    def test_repair_of_a_sound_store(self):
        lost, summary = self.repair()
        self.assertEqual((lost, summary["examples_lost"], summary["left"]["finding_count"]), ([], 0, 0))
        self.verify(0)

    def test_repair(self):
        """A vector, a table of rows, texts and codes, in two corpora, and records of the ledger: what was lost is
        listed, the rest is there, and can be ingested again."""
        unit, _ = h.normalise(self.x[30])
        path, at = find_in_shards(self.store, unit.tobytes())
        flip(path, at + 77)
        report = self.verify(3)
        bad = next(c for c in ("first", "second") if any(f'"{c}-30"' in line for line in report["findings"]))
        good = "first" if bad == "second" else "second"
        flip_all(self.store, f"{good}-0".encode() + f"{good}-1".encode(), 3)  # the ids of its first chunk
        flip_all(self.store, b"ascb\x01s", 49)
        flip_all(self.store, b"\0\0\0" + bytes([1 if bad == "first" else 2]) + f"{bad}-7".encode(), 4 + len(bad) + 2 + 3, "ledger")
        self.verify(3)
        lost, summary = self.repair()
        gone = {bad: [f"{bad}-30"], good: [f"{good}-{i}" for i in range(25)]}
        for name in ("first", "second"):
            self.assertEqual(sorted(x["id"] for x in lost if x["corpus"] == name and x["lost"] == "example"), sorted(gone[name]))
        self.assertEqual((summary["examples_lost"], summary["texts_lost"], summary["chunks_dropped"]), (26, 0, 1))
        report = self.verify(0)
        self.assertEqual((report["examples"], report["finding_count"]), (80 - 26, 0))
        client = self.up()
        for name in ("first", "second"):
            oracle = self.oracle(name, gone[name])
            answer = client.post(f"/v1/corpora/{name}/query?k=40", h.queries(self.x[0])).json()
            self.assertNotIn("partial", answer)
            self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in answer["results"][0]["proponents"]], oracle.top(self.x[0], 40)[0])
            self.assert_problem(client.get(f"/v1/corpora/{name}/examples/{gone[name][0]}"), 404, "unknown_example")
            again = client.put(f"/v1/corpora/{name}/batches/again", h.batch(self.x[:len(gone[name])], gone[name])).json()
            self.assertEqual((again["examples"], again["duplicates"]), (len(gone[name]), 0))
        self.assertEqual(client.get(f"/v1/corpora/{bad}/examples/{bad}-7").json()["sequence"], 7)

    def test_repair_of_texts(self):
        path, at = find_in_shards(self.store, b"ascb\x01t")
        with open(path, "rb") as f:
            head = f.read()[at:at + 24]
        flip_all(self.store, head, 48 + 8 + 16 * 10)
        lost, summary = self.repair()
        self.assertEqual({x["lost"] for x in lost}, {"texts"})
        self.assertEqual(summary["texts_lost"], len(lost))
        self.verify(0)
        client = self.up()
        for name in ("first", "second"):
            self.assert_right(client, name)
        one = client.get(f"/v1/corpora/{lost[0]['corpus']}/examples/{lost[0]['id']}").json()
        self.assertEqual((one["text"], one["meta"]), (None, None))

    def test_repair_of_a_shard_that_is_gone(self):
        shards = sorted(os.listdir(self.store + "/shards"))
        os.unlink(f"{self.store}/shards/{shards[0]}/data.mdb")
        client = self.up()
        answer = client.post("/v1/corpora/first/query?k=5&engine=scan", h.queries(self.x[0])).json()
        self.assertEqual((answer["partial"], answer["damaged"]["examples"], len(answer["damaged"]["ids"])), (True, 40, 40))
        self.assert_right(client, "second")
        client.close()
        self.server.stop()
        lost, summary = self.repair()
        self.assertEqual((len(lost), summary["chunks_dropped"]), (40, 2))
        self.verify(0)
        client = self.up()
        self.assertEqual(client.get("/v1/corpora/first").json()["examples"], 0)
        self.ingest(client, "first", "b9", self.x, [f"first-{i}" for i in range(40)])
        self.assert_right(client, "second")

    def test_flipped_bit_in_a_vector(self):
        """One example is lost, and named; the other 39 of its corpus are answered, by every engine."""
        unit, _ = h.normalise(self.x[30])  # in both corpora; the last place is one of them's
        path, at = find_in_shards(self.store, unit.tobytes())
        flip(path, at + 77)
        report = self.verify(3)
        self.assertEqual((report["damaged_blocks"], report["damaged_ids"]), (1, 1))
        bad = next(c for c in ("first", "second") if any(f'"{c}-30"' in line for line in report["findings"]))
        good = "first" if bad == "second" else "second"
        client = self.up()
        for engine in ("scan", "tiered", "flat", "auto"):
            self.assert_right(client, bad, [f"{bad}-30"], f"&engine={engine}")
            self.assert_right(client, good, more=f"&engine={engine}")
        scores, notes = h.read_tensors(client.post(f"/v1/corpora/{bad}/scores", h.queries(self.x[0])).body)
        self.assertEqual(scores["scores"][1].shape, (1, 39))
        self.assertNotIn(f"{bad}-30\n".encode(), scores["ids"][1].tobytes())
        self.assertEqual(notes["damaged"], "1")
        self.assert_problem(client.get(f"/v1/corpora/{bad}/examples/{bad}-30/encoding"), 500, "corrupt")
        done = self.wait_job(client, client.post("/v1/admin/verify"))
        self.assertEqual(done["result"]["damaged_ids"], 1)
        # It goes on taking batches, and the damage is still named afterwards.
        self.ingest(client, bad, "b3", self.x[:1], ["later"])
        answer = client.post(f"/v1/corpora/{bad}/query?k=50", h.queries(self.x[0])).json()
        self.assertEqual((answer["examples"], answer["damaged"]["ids"]), (40, [f"{bad}-30"]))

    def test_what_the_clients_say(self):
        """Damage in their own words: the package's records; the library's, as the command prints them."""
        sys.path.insert(0, os.path.join(h.ROOT, "client", "python"))
        self.addCleanup(sys.path.remove, sys.path[0])
        import ascribe
        unit, _ = h.normalise(self.x[30])
        flip(*find_in_shards(self.store, unit.tobytes()))
        flip_all(self.store, b"ascb\x01t", 48 + 8 + 16 * 10)
        bad = next(c for c in ("first", "second") if any(f'"{c}-30"' in line for line in self.verify(3)["findings"]))
        good = "second" if bad == "first" else "first"
        self.up()
        client = ascribe.Client(self.server.url, store=self.store)
        self.addCleanup(client.close)
        for name, lost in ((bad, [f"{bad}-30"]), (good, [])):
            whole = client.corpus(name).query(self.x[0], k=40)
            self.assertEqual(whole.damaged, ascribe.Damage(1, 1, lost) if lost else None)
            self.assertEqual("1 examples are damaged" in str(whole), bool(lost))
            unread = [p.id for p in whole[0].proponents if p.damaged]
            self.assertTrue(unread and all(p.text is None for p in whole[0].proponents if p.damaged == "texts"))
            page = client.corpus(name).examples(limit=3)
            self.assertEqual(sorted(page.damaged.ids), sorted(unread + lost))
            self.assertEqual(client.corpus(name).search("number").damaged.examples, len(unread + lost))
            query = os.path.join(self.scratch(), "q.npy")
            np.save(query, self.x[:1])
            one = f"ascribe: partial: 1 examples are damaged and left out: {bad}-30\n"
            some = f"ascribe: partial: {len(unread + lost)} examples are damaged and left out: {name}-"
            for words, told in ((["query", name, query, "--k", "40"], one if lost else ""),
                                (["search", name, "number"], some), (["example", "list", name, "--all"], some)):
                done = subprocess.run([h.program("ascribe"), *words, "--server", self.server.url, "--store", self.store],
                                      capture_output=True, text=True, timeout=60 * h.SLOW)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(done.stderr[:len(told)] if told else done.stderr, told)
                if words[0] == "query":
                    self.assertEqual(done.stdout.count("(its text is damaged)"), len(unread))
            done = subprocess.run([h.program("ascribe"), "example", "list", name, "--json", "--limit", "2", "--server",
                                   self.server.url, "--store", self.store], capture_output=True, text=True, timeout=60)
            told = json.loads(done.stderr.splitlines()[0])
            self.assertEqual((told["partial"], sorted(told["damaged"]["ids"])), (True, sorted(unread + lost)))

    def test_flipped_bit_in_an_id(self):
        """A table of rows: what its chunk holds is named by the ledger; the other chunk is served."""
        path, at = find_in_shards(self.store, b"second-33")
        flip(path, at + 8)
        self.verify(3)
        client = self.up()
        lost = [f"second-{i}" for i in range(25, 40)]
        self.assert_problem(client.get("/v1/corpora/second/examples/second-33"), 500, "corrupt")
        self.assert_right(client, "second", lost)
        page = client.get("/v1/corpora/second/examples?limit=100").json()
        self.assertEqual([x["id"] for x in page["examples"]], [f"second-{i}" for i in range(25)])
        self.assertEqual((page["partial"], sorted(page["damaged"]["ids"])), (True, sorted(lost)))
        self.assert_right(client, "first")

    def test_flipped_bit_in_the_texts(self):
        """Scores do not need them: hits say that they have none. What reads them all goes without."""
        path, at = find_in_shards(self.store, b"ascb\x01t")
        with open(path, "rb") as f:
            head = f.read()[at:at + 24]  # to its chunk's number: older versions of its page hold it as well
        flip_all(self.store, head, 48 + 8 + 16 * 10)
        report = self.verify(3)
        bad = next(c for c in ("first", "second") if any(f"corpus {c}: " in line for line in report["findings"]))
        client = self.up()
        answer = self.assert_right(client, bad)
        broken = [p for p in answer["results"][0]["proponents"] if p.get("damaged") == "texts"]
        self.assertIn(len(broken), (25, 15))
        self.assertTrue(all(p["text"] is None and p["meta"] is None for p in broken))
        body = {"queries": self.x[:1].tolist(), "k": 40, "filter": "meta.n >= 0 or id != \"x\""}
        reply = client.post(f"/v1/corpora/{bad}/query", body).json()
        self.assertEqual(reply["partial"], True)
        self.assertEqual(sorted(reply["damaged"]["ids"]), sorted(p["id"] for p in broken))
        self.assertEqual(reply["examples"], 40 - len(broken))
        found = client.post(f"/v1/corpora/{bad}/search", {"text": "number"}).json()
        self.assertEqual(found["partial"], True)
        self.assert_problem(client.get(f"/v1/corpora/{bad}/examples/{broken[0]['id']}"), 500, "corrupt")

    def test_the_scrub_finds_what_nobody_asks_for(self):
        unit, _ = h.normalise(self.x[30])
        path, at = find_in_shards(self.store, unit.tobytes())
        flip(path, at + 77)
        self.server = h.Server(self.store, ("--scrub-mib-s", "1"))
        client = self.up()
        value = lambda name: next(float(x.split()[-1]) for x in client.get("/metrics").body.decode().splitlines()  # noqa: E731
                                  if x.startswith(f"ascribe_scrub_{name} "))
        self.assertEqual(value("passes_total"), 0)
        h.wait_until(lambda: value("passes_total") == 1, "a pass of the scrub")
        self.assertEqual((value("findings_total"), value("bytes_total")), (1, 80 * DIM * 4))
        self.assertGreater(value("last_pass_seconds"), 1.7e9)
        # Known before the first request came near it.
        partial = [client.get(f"/v1/corpora/{c}/examples?limit=1").json().get("damaged", {}).get("ids") for c in ("first", "second")]
        self.assertIn(partial, ([None, ["second-30"]], [["first-30"], None]))
        self.assertTrue(any("scrub" in line and "-30" in line for line in self.server.tail(400).splitlines()), self.server.tail(20))

    def test_flipped_bit_in_codes(self):
        """They follow from the encodings: nothing is lost, the rows are read instead; compact makes them anew."""
        for kind in b"bslfx":
            flip_all(self.store, b"ascb\x01" + bytes([kind]), 50)
        report = self.verify(3)
        self.assertEqual(report["damaged_ids"], 0)
        self.assertGreater(report["damaged_blocks"], 0)
        client = self.up()
        for engine in ("tiered", "flat", "auto"):
            for name in ("first", "second"):
                self.assert_right(client, name, more=f"&engine={engine}")
        self.wait_job(client, client.post("/v1/admin/compact"))
        done = self.wait_job(client, client.post("/v1/admin/verify"))
        self.assertEqual(done["result"]["finding_count"], 0, done)

    def test_every_flip_is_found_or_harmless(self):
        """Random single bits over all shard files: verify finds it, or every answer is what it was."""
        client = self.up()
        ask = lambda c: [c.post(f"/v1/corpora/{n}/query?k=40&opponents=40", h.queries(self.x[:2])) for n in ("first", "second")] + [
            c.get(f"/v1/corpora/{n}/examples?limit=1000") for n in ("first", "second")]  # noqa: E731
        # What was found, not how long it took and what it read.
        strip = lambda r: r.body[:r.body.rfind(b'"exact":')] if b'"exact":' in r.body else r.body  # noqa: E731
        right = [strip(r) for r in ask(client)]
        client.close()
        self.server.stop()
        files = [os.path.join(b, n) for b, _, names in os.walk(self.store + "/shards") for n in names if "lock" not in n]
        r, found, flips = np.random.default_rng(5), 0, 24
        for _ in range(flips):
            path = files[r.integers(len(files))]
            at, bit = int(r.integers(8192, os.path.getsize(path))), 1 << int(r.integers(8))  # past LMDB's two meta pages
            flip(path, at, bit)
            done = h.offline("verify", "--store", self.store)
            self.assertIn(done.returncode, (0, 1, 3), done.stderr[-500:])
            found += done.returncode != 0
            if done.returncode == 0:
                self.server.start(create=False)
                client = self.server.client()
                self.assertEqual([strip(x) for x in ask(client)], right, f"{path} byte {at} bit {bit}: not found, other answers")
                client.close()
                self.server.stop()
            flip(path, at, bit)
        self.verify(0)
        print(f"figure: {flips} flipped bits in shards: {found} found by verify, the rest in free bytes, 0 wrong answers")

    def test_format_from_the_future_is_refused_untouched(self):
        path = os.path.join(self.store, "FORMAT")
        with open(path, "rb") as f:
            text = f.read()
        digits = "".join(chr(c) for c in text if chr(c).isdigit())
        with open(path, "wb") as f:
            f.write(text.replace(digits.encode(), b"9" * len(digits), 1))
        before = tree(self.store)
        for args in (("--listen", "127.0.0.1:0"), ("--create", "--listen", "127.0.0.1:0")):
            done = h.offline("--store", self.store, *args)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("9" * len(digits), done.stderr)
        self.assertEqual(tree(self.store), before)

    def test_strange_directories_are_refused_untouched(self):
        other = self.scratch()
        with open(other + "/thesis.tex", "w", encoding="ascii") as f:
            f.write("years of work")
        before = tree(other)
        done = h.offline("--store", other, "--create", "--listen", "127.0.0.1:0")
        self.assertGreater(done.returncode, 0, done.stderr)
        self.assertEqual(tree(other), before)
        done = h.offline("--store", other + "/none", "--listen", "127.0.0.1:0")
        self.assertGreater(done.returncode, 0, "started without --create on nothing")
        self.assertFalse(os.path.exists(other + "/none"))

    def test_missing_and_cut_files_are_refused_by_name(self):
        """A clear end, no signal, no endless start; put back, all is well."""
        for relative in ("FORMAT", "ledger/data.mdb"):
            path = os.path.join(self.store, relative)
            with open(path, "rb") as f:
                whole = f.read()
            for what in ("gone", "empty", "half"):
                os.unlink(path)
                if what != "gone":
                    with open(path, "wb") as f:
                        f.write(whole[:len(whole) // 2 if what == "half" else 0])
                try:
                    done = h.offline("verify", "--store", self.store, timeout=30)
                    self.assertIn(done.returncode, (1, 3), f"{relative} {what}: {done.returncode} {done.stderr[-500:]}")
                    self.assertTrue(done.stderr.strip(), f"{relative} {what}")
                finally:
                    with open(path, "wb") as f:
                        f.write(whole)
        self.verify(0)

    def test_a_shard_that_is_gone_is_named_and_the_rest_served(self):
        shards = sorted(os.listdir(self.store + "/shards"))
        self.assertEqual(len(shards), 2)
        os.rename(f"{self.store}/shards/{shards[0]}", self.store + "/../kept")
        done = h.offline("verify", "--store", self.store, timeout=30)
        self.assertIn(done.returncode, (1, 3), done.stderr)
        self.assertIn(shards[0].lstrip("0") or "0", done.stdout + done.stderr)


class Start(h.Case):
    def test_addresses_that_are_not_loopback_need_a_proxy(self):
        for address in ("0.0.0.0:0", "[::]:0"):
            done = h.offline("--store", self.scratch() + "/s", "--create", "--listen", address)
            self.assertGreater(done.returncode, 0)
            self.assertIn("behind-tls-proxy", done.stderr)
        server = self.serve(["--behind-tls-proxy"], listen="0.0.0.0:0")
        server.address = ("127.0.0.1", server.address[1])
        self.assert_status(server.client().get("/readyz"), 200)

    def test_settings_by_environment_and_file(self):
        where = self.scratch()
        with open(where + "/conf", "w", encoding="ascii") as f:
            f.write("threads = 3\nbody-limit = 5M\n")
        server = self.serve(["--config", where + "/conf"], {"ASCRIBE_BODY_LIMIT": "6M"})
        self.assertIn(6 << 20, server.client().get("/v1/info").json()["limits"].values())
        with open(where + "/conf", "a", encoding="ascii") as f:
            f.write("thraeds = 3\n")
        done = h.offline("--store", where + "/x", "--create", "--config", where + "/conf", "--listen", "127.0.0.1:0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("thraeds", done.stderr)

    def test_port_in_use_is_said(self):
        server = self.serve()
        done = h.offline("--store", self.scratch() + "/s", "--create", "--listen", f"127.0.0.1:{server.address[1]}")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn(str(server.address[1]), done.stderr)

    def test_new_admin_key_withdraws_the_old(self):
        server = self.serve()
        old = server.key
        server.stop()
        server.args = ["--new-admin-key"]
        server.start(create=False)
        self.assertNotEqual(server.key, old)
        self.assert_status(server.client().get("/v1/info"), 200)
        self.assert_problem(server.client(key=old).get("/v1/info"), 401, "unauthorized")

    def test_sigterm_and_sigint_end_with_0(self):
        for number in (15, 2):
            server = self.serve()
            server.process.send_signal(number)
            self.assertEqual(server.process.wait(30 * h.SLOW), 0)
            server.stop()

    def test_stdout_stays_empty_and_the_log_is_logfmt(self):
        store = self.scratch() + "/s"
        with subprocess.Popen([h.program("ascribed"), "--store", store, "--create", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as p:
            try:
                line = ""
                while not line.startswith("ready listen="):
                    line = p.stderr.readline()
                    self.assertTrue(line)
                    if not line.startswith("ready"):
                        self.assertRegex(line, r'^ts=\S+ (level=\w+ )?msg=("[^"]*"|\S+)( [a-z_]+=("(\\.|[^"\\])*"|\S*))*$')
                self.assertRegex(line, r"^ready listen=127\.0\.0\.1:\d+$")
            finally:
                p.terminate()  # else a failure in here would wait for a server that nobody ends
            out, _ = p.communicate(timeout=30 * h.SLOW)
            self.assertEqual((p.returncode, out), (0, ""))


if __name__ == "__main__":
    h.main()
