"""test_cli.py - the program `ascribe` against a real server: what docs/cli.md says it does, its exit
codes, and that a run which broke anywhere is simply run again."""
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
import unittest

import numpy as np

import harness
from harness import SLOW


class BreakingProxy:
    """Passes bytes to a server and back; resets each connection after 2 to 60 KB."""

    def __init__(self, target, rng):
        self.target, self.rng, self.broken = target, rng, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            left = int(self.rng.integers(2000, 60000))
            threading.Thread(target=self.carry, args=(client, left), daemon=True).start()

    def carry(self, client, left):
        try:
            self.pass_on(client, left)
        except OSError:
            pass  # either side went away: that is what this is for

    def pass_on(self, client, left):
        with client, socket.create_connection(self.target) as server:
            other = {client: server, server: client}
            while True:
                for side in select.select(list(other), [], [])[0]:
                    data = side.recv(min(4096, left))
                    if not data:
                        return
                    other[side].sendall(data)
                    left -= len(data)
                    if left <= 0:
                        self.broken += 1
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return

    def close(self):
        self.listener.close()


class CliCase(harness.ServerCase):
    """Runs the program with a clean environment, against the class's server unless told otherwise."""

    def setUp(self):
        super().setUp()
        self.dir = self.scratch()
        self.rng = np.random.default_rng(sum(self.id().encode()))

    def path(self, name):
        return os.path.join(self.dir, name)

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("ASCRIBE_")}
        env.update({"ASCRIBE_SERVER": self.server.url, "ASCRIBE_STORE": self.server.store, **more})
        return {k: v for k, v in env.items() if v is not None}

    def start(self, *args, env=None, **kw):
        return subprocess.Popen([harness.program("ascribe"), *map(str, args)],
                                env=self.environment(**(env or {})), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)

    def finish(self, process, code=0, timeout=60):
        out, err = process.communicate(timeout=timeout * SLOW)
        self.assertNotRegex(err, harness.REPORTS)
        self.assertEqual(process.returncode, code, f"{process.args}\n{out[-3000:]}\n{err[-3000:]}")
        return out, err

    def cli(self, *args, code=0, env=None):
        """(stdout, stderr) of a run that must end with this exit code."""
        return self.finish(self.start(*args, env=env), code)

    def json(self, *args, **kw):
        """The one JSON document a run prints with --json."""
        return json.loads(self.cli("--json", "-q", *args, **kw)[0])

    def pair(self, n, d, name="x", prefix="e"):
        """X.npy and E.jsonl; the rows."""
        x = self.rng.standard_normal((n, d)).astype("<f4")
        np.save(self.path(name + ".npy"), x)
        with open(self.path(name + ".jsonl"), "w", encoding="utf-8") as f:
            for i in range(n):
                f.write(json.dumps({"id": f"{prefix}/{i}", "text": f"text {i} of {prefix}: naïve 日本",
                                    "meta": {"i": i}}, ensure_ascii=False) + "\n")
        return x

    def corpus(self, name, dim, **more):
        return self.create(self.client, name, dim, **more)

    def ingest_pair(self, corpus, name="x", *more, **kw):
        return self.json("ingest", corpus, "--gradients", self.path(name + ".npy"), "--examples",
                         self.path(name + ".jsonl"), *more, **kw)

    def stored(self, corpus):
        return self.client.get(f"/v1/corpora/{corpus}").json()

    def all_ids(self, corpus):
        out, _ = self.cli("--json", "example", "list", corpus, "--all")
        return [json.loads(line)["id"] for line in out.splitlines()]


class TestMainJob(CliCase):
    def test_create_ingest_query_scores(self):
        x = self.pair(700, 96)
        q = self.rng.standard_normal((3, 96)).astype("<f4")
        np.save(self.path("q.npy"), q)
        oracle = harness.Oracle(96)
        oracle.ingest(x, [f"e/{i}" for i in range(700)])

        made = self.json("corpus", "create", "main", "--dim", 96)
        self.assertEqual(made["manifest"]["dim"], 96)
        got = self.ingest_pair("main", "x", "--rows-per-batch", 64, "--jobs", 1)
        self.assertEqual((got["examples"], got["duplicates"], got["batches"], got["batches_resent"],
                          got["sequence"]), (700, 0, 11, 0, 700))

        answer = self.json("query", "main", self.path("q.npy"), "-k", 7, "--opponents", 4)
        for row, result in zip(q, answer["results"]):
            for side, expect in zip(("proponents", "opponents"), oracle.top(row, 7, 4)):
                self.assertEqual([(h["id"], h["score"], h["sequence"]) for h in result[side]], expect)
        self.assertEqual(answer["results"][0]["proponents"][0]["text"][:5], "text ")

        # every score, in float64 as computed and in float32, as both kinds of file
        self.cli("scores", "main", self.path("q.npy"), "--f64", "--out", self.path("s.safetensors"))
        with open(self.path("s.safetensors"), "rb") as f:
            t, meta = harness.read_tensors(f.read())
        expect = np.stack([oracle.scores(row) for row in q])
        np.testing.assert_array_equal(t["scores"][1], expect)
        self.assertEqual(t["ids"][1].tobytes().decode().splitlines(), oracle.ids)
        self.assertEqual(meta["corpus"], "main")
        self.cli("scores", "main", self.path("q.npy"), "--out", self.path("s.npy"))
        np.testing.assert_array_equal(np.load(self.path("s.npy")), expect.astype("<f4"))
        with open(self.path("s.ids.txt"), encoding="utf-8") as f:
            self.assertEqual(f.read().splitlines(), oracle.ids)
        # and they are the plain cosines of the gradients, whatever the oracle says
        unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
        want = (q / np.linalg.norm(q, axis=1)[:, None]).astype(np.float64) @ unit.T
        np.testing.assert_allclose(expect, want, atol=2e-7)
        self.assertEqual(sorted(os.listdir(self.dir)), ["q.npy", "s.ids.txt", "s.npy", "s.safetensors",
                                                        "x.jsonl", "x.npy"])

    def test_table_for_people(self):
        self.pair(50, 8)
        self.corpus("table", 8)
        self.ingest_pair("table")
        out, _ = self.cli("query", "table", self.path("x.npy"), "--row", 7, "-k", 2, "-o", 1)
        head, *rest = out.splitlines()
        self.assertRegex(head, r"^query 1 of 1: 50 examples, engine scan, certified, [0-9.]+ ms$")
        self.assertRegex(rest[2], r"^ +1  \+1\.000000  e/7 +text 7 of e: naïve 日本$")
        self.assertRegex(out, r"(?m)^  opponents$")
        self.assertIn("text 7 of e", self.cli("query", "table", self.path("x.npy"), "--row", 7,
                                              "-k", 1, "--text")[0])
        self.assertNotIn("text 7 of e", self.cli("query", "table", self.path("x.npy"), "--row", 7,
                                                 "-k", 1, "--no-text")[0])

    def test_batch_files_and_folders(self):
        os.mkdir(self.path("batches"))
        rows = self.rng.standard_normal((30, 5)).astype("<f4")
        for i in range(3):
            with open(self.path(f"batches/{i}.safetensors"), "wb") as f:
                f.write(harness.batch(rows[10 * i:10 * i + 10], [f"n{j}" for j in range(10 * i, 10 * i + 10)]))
        definition = self.path("c.json")
        with open(definition, "w", encoding="utf-8") as f:
            json.dump({"dim": 5, "dtype": "f16", "model": "a model"}, f)
        one = self.path("batches/0.safetensors")
        first = self.json("ingest", "files", one, "--create", definition)
        self.assertEqual((first["examples"], first["batches_resent"]), (10, 0))
        self.assertEqual(self.stored("files")["manifest"]["dtype"], "f16")
        rest = self.json("ingest", "files", self.path("batches"), "--create", definition)
        self.assertEqual((rest["batches"], rest["batches_resent"], rest["sequence"]), (3, 1, 30))
        self.assertEqual(rest["examples"], 30)
        self.assertEqual(sorted(self.all_ids("files")), sorted(f"n{i}" for i in range(30)))

    def test_what_is_stored_is_not_sent_again(self):
        """A rerun asks by name and content: no body of what stands; of what is new, or other, there is."""
        def bodies():
            text = self.client.get("/metrics").body.decode()
            return sum(int(n) for n in re.findall(r'requests_total\{method="PUT",route="\S+batches\S+ (\d+)', text))

        x = self.pair(60, 8)
        self.corpus("again", 8)
        run = ("again", "x", "--rows-per-batch", 10)
        self.assertEqual(self.ingest_pair(*run)["batches_resent"], 0)
        before, rows = bodies(), self.stored("again")["next_sequence"]
        got = self.ingest_pair(*run)
        self.assertEqual((got["batches"], got["batches_resent"], got["examples"], got["sequence"]), (6, 6, 60, rows))
        self.assertEqual(bodies(), before)
        body = harness.batch(x[:3], ["n1", "n2", "n3"])
        with open(self.path("f.safetensors"), "wb") as f:
            f.write(body)
        self.json("ingest", "again", self.path("f.safetensors"))
        self.assertEqual(bodies(), before + 1)
        self.assertEqual(self.json("ingest", "again", self.path("f.safetensors"))["batches_resent"], 1)
        self.assertEqual(bodies(), before + 1)

    def test_dtypes_and_tensors(self):
        x = self.rng.standard_normal((20, 12)).astype("<f4")
        lines = "".join(f'{{"id":"i{i}"}}\n' for i in range(20)).rstrip("\n")  # last line not ended
        with open(self.path("e.jsonl"), "w", encoding="utf-8") as f:
            f.write(lines)
        np.save(self.path("half.npy"), x.astype("<f2"))
        with open(self.path("bf.safetensors"), "wb") as f:
            f.write(harness.tensors([harness.matrix("other", x[:1]), harness.matrix("mine", x, "bf16")]))
        for name, more in (("half.npy", []), ("bf.safetensors", ["--tensor", "mine"])):
            corpus = name.split(".")[0]
            self.corpus(corpus, 12)
            got = self.json("ingest", corpus, "--gradients", self.path(name), "--examples",
                            self.path("e.jsonl"), "--rows-per-batch", 7, "--jobs", 1, *more)
            self.assertEqual(got["examples"], 20)
            sent = "f16" if corpus == "half" else "bf16"
            oracle = harness.Oracle(12)
            oracle.ingest(x, [f"i{i}" for i in range(20)], sent)
            top = self.json("query", corpus, self.path(name), "--row", 3, "-k", 3,
                            *more)["results"][0]["proponents"]
            self.assertEqual([(h["id"], h["score"], h["sequence"]) for h in top],
                             oracle.top(x[3], 3, sent=sent)[0])


class TestResume(CliCase):
    def wait_for_some(self, corpus, least, process):
        def some():
            self.assertIsNone(process.poll(), "the run ended before it could be broken")
            return self.stored(corpus)["examples"] >= least
        harness.wait_until(some, f"{least} examples in {corpus}")

    def run_broken(self, corpus, sig, code):
        n = 6000
        self.pair(n, 256)
        self.corpus(corpus, 256)
        args = ["ingest", corpus, "--gradients", self.path("x.npy"), "--examples",
                self.path("x.jsonl"), "--rows-per-batch", 10, "--json"]
        process = self.start(*args)
        self.wait_for_some(corpus, 200, process)
        process.send_signal(sig)
        _, err = self.finish(process, code)
        before = self.stored(corpus)["examples"]
        self.assertGreater(before, 0)
        self.assertLess(before, n)
        self.assertEqual(before % 10, 0)  # whole batches only
        got = json.loads(self.cli(*args)[0])
        self.assertEqual((got["batches"], got["examples"], got["duplicates"]), (n // 10, n, 0))
        # the two that were in flight may have been stored after we looked
        self.assertIn(got["batches_resent"] - before // 10, (0, 1, 2))
        ids = self.all_ids(corpus)
        self.assertEqual(len(ids), n)
        self.assertEqual(set(ids), {f"e/{i}" for i in range(n)})
        return err

    def test_killed_and_run_again(self):
        self.run_broken("killed", signal.SIGKILL, -signal.SIGKILL)

    def test_interrupted_and_run_again(self):
        self.run_broken("interrupted", signal.SIGINT, 130)

    def test_interrupt_says_how_to_go_on(self):
        self.pair(3000, 64)
        self.corpus("says", 64)
        process = self.start("ingest", "says", "--gradients", self.path("x.npy"), "--examples",
                             self.path("x.jsonl"), "--rows-per-batch", 5)
        self.wait_for_some("says", 20, process)
        process.send_signal(signal.SIGINT)
        _, err = self.finish(process, 130)
        self.assertRegex(err, r"interrupted: [\d,]+ of 600 batches are stored; run the same command again")

    def test_the_server_dies_and_comes_back(self):
        where = self.path("s")  # the same address before and after
        server = self.serve(listen=f"unix:{where}")
        env = {"ASCRIBE_SERVER": f"unix:{where}", "ASCRIBE_STORE": server.store}
        n = 4000
        self.pair(n, 128)
        self.json("corpus", "create", "away", "--dim", 128, env=env)
        process = self.start("ingest", "away", "--gradients", self.path("x.npy"), "--examples",
                             self.path("x.jsonl"), "--rows-per-batch", 5, "--json", "-q", env=env)
        client = server.client()
        harness.wait_until(lambda: client.get("/v1/corpora/away").json()["examples"] >= 100, "a start")
        client.close()
        server.kill()
        self.assertIsNone(process.poll())
        time.sleep(0.5)  # some attempts meet nobody
        if os.path.exists(where):
            os.unlink(where)
        server.start(create=False)
        got = json.loads(self.finish(process, 0)[0])
        self.assertEqual((got["batches"], got["examples"], got["duplicates"]), (n // 5, n, 0))
        self.assertEqual(server.client().get("/v1/corpora/away").json()["examples"], n)

    def test_a_network_that_breaks(self):
        """Every connection is reset after a random number of bytes, in either direction."""
        n = 1500
        self.pair(n, 64)
        self.corpus("breaks", 64)
        proxy = BreakingProxy(self.server.address, self.rng)
        self.addCleanup(proxy.close)
        got = self.json("ingest", "breaks", "--gradients", self.path("x.npy"), "--examples",
                        self.path("x.jsonl"), "--rows-per-batch", 25, "--retries", 30,
                        env={"ASCRIBE_SERVER": proxy.url})
        self.assertGreater(proxy.broken, 3)
        self.assertEqual((got["batches"], got["examples"], got["duplicates"]), (n // 25, n, 0))
        self.assertEqual(self.stored("breaks")["examples"], n)

    def test_another_cut_makes_no_duplicates(self):
        self.pair(100, 6)
        self.corpus("cut", 6)
        self.assertEqual(self.ingest_pair("cut", "x", "--rows-per-batch", 9)["examples"], 100)
        got = self.ingest_pair("cut", "x", "--rows-per-batch", 13, "--jobs", 5)
        self.assertEqual((got["examples"], got["duplicates"]), (0, 100))


class TestRest(CliCase):
    def test_examples(self):
        x = self.pair(25, 4, prefix="ä b/c?d#e%")
        self.corpus("ex", 4)
        self.ingest_pair("ex")
        name = "ä b/c?d#e%/7"
        got = self.json("example", "get", "ex", name)
        self.assertEqual((got["id"], got["meta"]), (name, {"i": 7}))
        np.testing.assert_allclose(got["norm"], np.linalg.norm(x[7].astype(float)), rtol=1e-12)
        self.assertIn("naïve 日本", self.cli("example", "get", "ex", name)[0])

        page, err = self.cli("--json", "example", "list", "ex", "--limit", 10)
        cursor = json.loads(err)["next"]
        more = self.cli("--json", "example", "list", "ex", "--limit", 20, "--after", cursor)
        rows = [json.loads(line) for line in (page + more[0]).splitlines()]
        self.assertEqual([r["sequence"] for r in rows], list(range(25)))
        self.assertEqual(more[1], "")

        self.cli("example", "encoding", "ex", name, "--out", self.path("e.safetensors"))
        top = self.json("query", "ex", self.path("e.safetensors"), "-k", 1)["results"][0]["proponents"]
        self.assertEqual(top[0]["id"], name)
        printed = self.cli("example", "encoding", "ex", name)[0].splitlines()
        np.testing.assert_array_equal(np.array(printed, "<f4"), harness.normalise(x[7])[0][0])

        self.cli("example", "delete", "ex", name, "ä b/c?d#e%/8")
        self.cli("example", "get", "ex", name, code=2)
        self.assertEqual(len(self.all_ids("ex")), 23)

    def test_encodings_of_every_dtype(self):
        x = np.array([[1, -2, 3e-3, 1e-6, 0], [5, 4, 3, 2, 1]], "<f4")
        for dtype in ("f32", "f16", "bf16"):
            self.corpus("enc-" + dtype, 5, dtype=dtype)
            self.ingest(self.client, "enc-" + dtype, "b", x, ["a", "b"])
            printed = self.cli("example", "encoding", "enc-" + dtype, "a")[0].splitlines()
            stored, _ = harness.normalise(x, dtype)
            np.testing.assert_array_equal(np.array(printed, "<f4"), harness.widen(stored, dtype)[0])

    def test_corpora(self):
        self.assertIn("created", self.cli("corpus", "create", "one", "--dim", 3, "--dtype", "bf16")[0])
        self.assertIn("stands already", self.cli("corpus", "create", "one", "--dim", 3, "--dtype",
                                                 "bf16")[0])
        _, err = self.cli("corpus", "create", "one", "--dim", 4, code=2)
        self.assertRegex(err, r"^ascribe: corpus_conflict: .*; request \S+\n$")
        names = [json.loads(line)["name"] for line in self.cli("--json", "corpus", "list")[0].splitlines()]
        self.assertIn("one", names)
        self.assertRegex(self.cli("corpus", "show", "one")[0], r"(?m)^manifest\.dtype +bf16$")
        self.cli("corpus", "drop", "one", code=1)  # nobody to ask, no --yes
        self.cli("corpus", "drop", "one", "--yes")
        self.cli("corpus", "show", "one", code=2)

    def test_info_jobs_and_admin(self):
        info = self.json("info")
        self.assertEqual(info["version"], self.cli("--version")[0].split()[1])
        self.assertRegex(self.cli("info")[0], r"(?m)^limits\.\w+ +\d+$")
        self.pair(40, 4)
        self.corpus("jobs", 4)
        self.ingest_pair("jobs")
        self.cli("example", "delete", "jobs", "e/1")
        for verb in (["verify"], ["backup"], ["compact", "jobs"]):
            job = self.json(*verb)
            self.assertEqual((job["kind"], job["state"]), (verb[0], "succeeded"))
        whole = self.json("backup", "--base", "none")["result"]
        self.assertIsNone(whole["base"])
        self.assertEqual(self.json("backup", "--base", whole["name"])["result"]["base"], whole["name"])
        self.cli("backup", "--base", "../x", code=2)
        started = self.json("verify", "--no-wait")
        waited = self.json("job", "wait", started["id"])
        self.assertEqual(waited["state"], "succeeded")
        self.assertEqual(self.json("job", "show", started["id"])["result"], waited["result"])
        listed = [json.loads(line)["id"] for line in self.cli("--json", "job", "list")[0].splitlines()]
        self.assertEqual(listed[0], started["id"])
        self.cli("job", "show", "j999999", code=2)

    def test_keys(self):
        out, err = self.cli("key", "create", "--scope", "read", "--label", "note book")
        key = out.strip()
        self.assertRegex(key, r"^asc_\w+_\S+$")
        self.assertNotIn(key, err)
        with open(self.path("key"), "w", encoding="utf-8") as f:
            f.write(out)
        bare = {"ASCRIBE_STORE": None}
        self.cli("corpus", "list", code=2, env=bare)  # no key at all
        self.cli("corpus", "list", env={**bare, "ASCRIBE_KEY": key})
        self.cli("corpus", "list", "--key-file", self.path("key"), env=bare)
        self.cli("--key-file", self.path("key"), "corpus", "list", env={"ASCRIBE_KEY": "asc_x_y"})
        _, err = self.cli("corpus", "create", "k", "--dim", 3, code=2, env={**bare, "ASCRIBE_KEY": key})
        self.assertIn("forbidden", err)
        listed = [json.loads(line) for line in self.cli("--json", "key", "list")[0].splitlines()]
        mine = [k for k in listed if k["label"] == "note book"]
        self.assertEqual([k["scope"] for k in mine], ["read"])
        self.assertNotIn(key.split("_")[2], json.dumps(listed))
        out, err = self.cli("key", "rotate", mine[0]["id"], "--overlap", "2h")
        self.assertIn("2:00:00", err)
        for each in (key, out.strip()):
            self.cli("corpus", "list", env={**bare, "ASCRIBE_KEY": each})
        self.cli("key", "rotate", mine[0]["id"], "--overlap", "2", code=1)
        for bad in ("0d", "3", "d", "2001-01-01", "2100-13-01", "1y"):
            self.cli("key", "create", "--expires", bad, code=1)
        out = self.cli("--json", "key", "create", "--expires", "2w", "--corpus", "no-such", "--rate", "9")[0]
        made = json.loads(out)
        self.assertEqual((made["corpus"], made["rate"], made["scope"]), ("no-such", 9, "read"))
        self.assertTrue(made["expires"] > made["created"])
        self.assertEqual(self.cli("corpus", "list", env={**bare, "ASCRIBE_KEY": made["key"]})[0], "")
        self.assertIn("no-such", self.cli("key", "list")[0])
        self.cli("key", "revoke", mine[0]["id"])
        self.cli("corpus", "list", code=2, env={**bare, "ASCRIBE_KEY": key})

    def test_unix_socket(self):
        where = self.path("s")
        server = self.serve(listen=f"unix:{where}")
        for args in (["--server", f"unix:{where}", "--store", server.store, "info"],
                     ["info", "--store", server.store, "-s", f"unix://{where}"]):
            self.assertEqual(json.loads(self.cli("--json", *args, env={
                "ASCRIBE_SERVER": None, "ASCRIBE_STORE": None})[0])["version"], "0.1.0")


class TestErrors(CliCase):
    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)

    def test_command_lines(self):
        for args in ([], ["nothing"], ["help", "nothing"], ["corpus"], ["corpus", "show"], ["corpus", "fly", "x"],
                     ["corpus", "create", "x"], ["ingest"], ["ingest", "c"], ["query", "c"],
                     ["ingest", "c", "f", "--gradients", "g", "--examples", "e"],
                     ["ingest", "c", "--gradients", "g"], ["query", "c", "f", "-k", "x"],
                     ["query", "c", "f", "-k", "10001"], ["query", "c", "f", "--nonsense"],
                     ["query", "c", "f", "-k", "0"], ["scores", "c", "f"],
                     ["scores", "c", "f", "--out", "x.txt"], ["job", "wait"], ["job", "list", "j1"],
                     ["key", "revoke"], ["example", "get", "c"], ["example", "fly", "c"],
                     ["info", "--server", "ftp://x"], ["info", "--server", "127.0.0.1:1"],
                     ["--retries", "x", "info"], ["info", "more"], ["verify", "x"]):
            out, err = self.cli(*args, code=1)
            self.assertEqual(out, "", args)
            self.assertRegex(err, r"^ascribe: .*\n$", args)

    def test_help(self):
        for args in (["help"], ["--help"], ["help", "ingest"], ["ingest", "--help"], ["corpus", "-h"],
                     ["query", "c", "--help"]):
            out, err = self.cli(*args, env={"ASCRIBE_SERVER": "http://127.0.0.1:1"})
            self.assertIn("usage: ascribe", out)
            self.assertEqual(err, "")
            self.assertLessEqual(max(map(len, out.splitlines())), 100)
        verbs = re.findall(r"(?m)^  (\w+) ", self.cli("help")[0].split("options of every verb")[0])
        for verb in verbs:
            self.assertIn("options of every verb" if verb != "help" else "verbs",
                          self.cli(verb, "--help")[0])

    def test_nobody_there(self):
        started = time.monotonic()
        _, err = self.cli("info", "--server", "http://127.0.0.1:1", code=3)
        self.assertRegex(err, r"^ascribe: unreachable: .*; 3 attempts\nascribe: hint: ")
        self.assertLess(time.monotonic() - started, 10 * SLOW)
        err = json.loads(self.cli("--json", "info", "--server", f"unix:{self.path('none')}", code=3)[1])
        self.assertEqual(err["error"]["code"], "unreachable")
        self.cli("info", "--server", "http://no-such-host.invalid", code=3)

    def test_refused(self):
        x = self.pair(30, 4)
        self.corpus("bad", 4)
        _, err = self.cli("ingest", "absent", "--gradients", self.path("x.npy"), "--examples",
                          self.path("x.jsonl"), code=2)
        self.assertIn("unknown_corpus", err)
        self.assertIn("corpus create absent --dim 4", err)
        x[17, 2] = np.nan  # the error says where it is in the person's own files
        np.save(self.path("x.npy"), x)
        _, err = self.cli("-q", "ingest", "bad", "--gradients", self.path("x.npy"), "--examples",
                          self.path("x.jsonl"), "--rows-per-batch", 10, "--jobs", 1, code=2)
        self.assertIn("not_finite", err)
        self.assertIn("row 17 of", err)
        self.assertIn("line 18 of", err)
        self.assertIn("1 of 3 batches are stored", err)
        self.assertEqual(self.stored("bad")["examples"], 10)
        self.cli("query", "absent", self.path("x.npy"), code=2)
        self.cli("query", "bad", self.path("x.npy"), "--engine", "none", code=2)

    def test_a_body_above_the_limit(self):
        server = self.serve(["--body-limit", "1M"])
        env = {"ASCRIBE_SERVER": server.url, "ASCRIBE_STORE": server.store}
        self.pair(2000, 1024)  # 8 MiB in one batch
        self.json("corpus", "create", "big", "--dim", 1024, env=env)
        err = json.loads(self.cli("--json", "-q", "ingest", "big", "--gradients", self.path("x.npy"),
                                  "--examples", self.path("x.jsonl"), code=2, env=env)[1])
        self.assertEqual(err["error"]["code"], "too_large")
        self.assertEqual(err["error"]["limit"], 1 << 20)
        got = self.json("ingest", "big", "--gradients", self.path("x.npy"), "--examples",
                        self.path("x.jsonl"), "--rows-per-batch", 200, env=env)
        self.assertEqual(got["examples"], 2000)

    def test_bad_files(self):
        x = self.pair(30, 4)
        self.corpus("local", 4)
        good = (self.path("x.npy"), self.path("x.jsonl"))
        huge = b"\x93NUMPY\x01\x00F\x00" + \
            b"{'descr':'<f4','fortran_order':False,'shape':(65536,131072)}".ljust(69) + b"\n"
        self.assertEqual(len(huge), 80)  # and claims 32 GiB
        np.save(self.path("f.npy"), np.asfortranarray(x))
        np.save(self.path("be.npy"), x.astype(">f4"))
        np.save(self.path("f8.npy"), x.astype("<f8"))
        np.save(self.path("3d.npy"), x.reshape(5, 6, 4))
        np.save(self.path("wide.npy"), x.reshape(20, 6))
        np.save(self.path("none.npy"), x[:0])
        with open(good[0], "rb") as f:
            whole = f.read()
        with open(good[1], "rb") as f:
            lines = f.read()
        cases = [
            ((self.write("huge.npy", huge), good[1]), "the file has 0"),
            ((self.path("f.npy"), good[1]), "Fortran"),
            ((self.path("be.npy"), good[1]), "'>f4'"),
            ((self.path("f8.npy"), good[1]), "'<f8'"),
            ((self.path("3d.npy"), good[1]), "3 dimensions"),
            ((self.path("none.npy"), good[1]), "empty matrix"),
            ((self.write("cut.npy", whole[:-1]), good[1]), "needs 480"),
            ((self.write("long.npy", whole + b"x"), good[1]), "needs 480"),
            ((self.write("text.npy", b"hello\n" * 40), good[1]), "not a safetensors"),
            ((self.write("empty.npy", b""), good[1]), "too few"),
            ((self.path("absent.npy"), good[1]), "No such file"),
            ((self.dir, good[1]), "not a regular file"),
            ((good[0], self.path("absent.jsonl")), "No such file"),
            ((good[0], self.write("few.jsonl", lines[:lines.index(b"\n") + 1] * 29)), "29 lines"),
            ((good[0], self.write("many.jsonl", lines + b'{"id":"z"}\n')), "31 lines"),
            ((good[0], self.write("gap.jsonl", lines.replace(b"\n", b"\n\n", 3))), "line 2 is empty"),
        ]
        for (gradients, examples), why in cases:
            out, err = self.cli("ingest", "local", "--gradients", gradients, "--examples", examples,
                                code=5)
            self.assertIn(why, err)
            self.assertEqual((out, err.count("\n")), ("", 1), err)
        _, err = self.cli("ingest", "local", "--gradients", self.path("wide.npy"), "--examples",
                          self.write("20.jsonl", b"\n".join(lines.split(b"\n")[:20])), code=5)
        self.assertIn("dim 6; corpus local has 4", err)
        self.cli("query", "local", self.path("f.npy"), code=5)
        self.cli("query", "local", good[0], "--row", 30, code=5)
        self.assertIn("--examples", self.cli("ingest", "local", good[0], code=5)[1])  # no batch file
        self.cli("query", "local", self.write("f8.safetensors", harness.tensors(
            [("queries", "F64", [1, 4], bytes(32))])), code=5)
        self.cli("corpus", "create", "x", self.path("absent.json"), code=5)
        self.cli("info", "--key-file", self.path("absent"), code=5)
        self.cli("scores", "local", good[0], "--out", self.path("no/such/folder.npy"), code=5)
        self.assertEqual(self.stored("local")["examples"], 0)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([harness.program("ascribe"), "corpus", "list", "--json"], stdout=full,
                                  stderr=subprocess.PIPE, env=self.environment(), timeout=60 * SLOW)
            listed = self.cli("corpus", "list", "--json")[0]
        self.assertEqual(done.returncode, 5 if listed else 0)


class TestProgress(CliCase):
    def test_lines_when_piped(self):
        self.pair(400, 64)
        self.corpus("piped", 64)
        out, err = self.cli("ingest", "piped", "--gradients", self.path("x.npy"), "--examples",
                            self.path("x.jsonl"), "--rows-per-batch", 20, "--json")
        events = [json.loads(line) for line in err.splitlines()]
        self.assertTrue(events)
        last = events[-1]
        self.assertEqual((last["event"], last["rows"], last["rows_total"], last["progress"]),
                         ("progress", 400, 400, 1.0))
        self.assertEqual(last["bytes"], last["bytes_total"])
        self.assertEqual(sorted(e["bytes"] for e in events), [e["bytes"] for e in events])
        self.assertEqual(json.loads(out)["examples"], 400)
        self.assertEqual(self.cli("-q", "ingest", "piped", "--gradients", self.path("x.npy"),
                                  "--examples", self.path("x.jsonl"))[1], "")

    def test_bar_on_a_terminal(self):
        self.pair(400, 64)
        self.corpus("tty", 64)
        leader, follower = pty.openpty()
        process = subprocess.Popen([harness.program("ascribe"), "ingest", "tty", "--gradients",
                                    self.path("x.npy"), "--examples", self.path("x.jsonl")],
                                   env=self.environment(), stdin=subprocess.DEVNULL, stdout=follower,
                                   stderr=follower)
        os.close(follower)
        shown = b""
        reader_end = time.monotonic() + 60 * SLOW
        while time.monotonic() < reader_end:
            if select.select([leader], [], [], 1)[0]:
                try:
                    part = os.read(leader, 65536)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                shown += part
        os.close(leader)
        self.assertEqual(process.wait(60 * SLOW), 0)
        text = shown.decode()
        self.assertRegex(text, r"\ringest tty \[#+\] 100%")
        self.assertRegex(text, r"tty: 400 examples in 1 batches, ")

    def test_two_runs_at_once(self):
        """The same run twice at the same time: each batch is stored once."""
        self.pair(600, 32)
        self.corpus("twice", 32)
        results = []

        def run():
            results.append(self.ingest_pair("twice", "x", "--rows-per-batch", 10))
        threads = [threading.Thread(target=run) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120 * SLOW)
        self.assertEqual([r["batches"] for r in results], [60, 60])
        self.assertEqual(sum(r["batches_resent"] for r in results), 60)
        self.assertEqual(self.stored("twice")["examples"], 600)


if __name__ == "__main__":
    unittest.main(verbosity=2)
