"""test_encoder.py - the encoder: ascribe-lm behind the server, and programs that are no encoders.

Good: a corpus ingested by ascribe-lm is asked in words through the server, and what each token adds
to a score sums to that score, in every kind of score. Bad: an encoder that prints garbage, answers
another's request, dies, hangs, floods, goes deaf: each has a clear message, the server lives, and
nothing else is slowed.
"""
import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

import numpy as np

import harness as h
from test_lm_files import DIM, SEED, write_corpus


def lm(*args):
    done = subprocess.run([h.program("ascribe-lm"), *args], capture_output=True, text=True,
                          timeout=120 * h.SLOW)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_state(client, *states):
    """GET /v1/encoder once it is in one of the states."""
    def there():
        about = client.get("/v1/encoder").json()
        return about if about["state"] in states else None
    return h.wait_until(there, f"encoder {states}")


def children(pid):
    """Process ids whose parent is pid."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(word) for word in f.read().split()]


def living(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Model(h.Case):
    """A server whose encoder is ascribe-lm, and a corpus that ascribe-lm encoded."""
    optimizer, second = "adam", "auto"

    @classmethod
    def setUpClass(cls):
        cls.scratch_folder = tempfile.TemporaryDirectory(prefix="ascribe-test-")
        cls.addClassCleanup(cls.scratch_folder.cleanup)
        folder = cls.scratch_folder.name
        cls.data, cls.model = folder + "/corpus.jsonl", folder + "/a model.ckpt"
        write_corpus(cls.data)
        lm("train", "--data", cls.data, "--out", cls.model, "--steps", "40", "--batch", "8", "--vocab",
           "320", "--context", "24", "--layers", "2", "--width", "32", "--heads", "2", "--optimizer",
           cls.optimizer)
        cls.options = ["--model", cls.model, "--dim", str(DIM), "--seed", str(SEED),
                       "--second-moment", cls.second]
        command = f"{h.program('ascribe-lm')} serve --model '{cls.model}' --dim {DIM} --seed {SEED} " \
                  f'--second-moment "{cls.second}"'
        cls.server = h.Server(folder + "/store", ["--encoder", command])
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()
        with open(folder + "/key", "w") as f:
            f.write(cls.server.key)
        lm("encode", *cls.options, "--data", cls.data, "--server", cls.server.url, "--corpus", "towns",
           "--key-file", folder + "/key")
        with open(cls.data, encoding="utf-8") as f:
            cls.texts = {x["id"]: x["text"] for x in map(json.loads, f)}

    def setUp(self):
        self.client = self.server.client()
        self.addCleanup(self.client.close)
        self.about = wait_state(self.client, "ready")

    def encode(self, prompt, target):
        reply = self.client.post("/v1/encoder/encode", {"prompt": prompt, "target": target})
        return self.assert_status(reply, 200)


class Asking(Model):
    def test_it_says_who_it_is(self):
        corpus = self.client.get("/v1/corpora/towns").json()
        self.assertEqual(self.about["dim"], DIM)
        self.assertEqual(self.about["model"], corpus["manifest"]["model"])
        self.assertEqual(self.about["verbs"], ["encode", "continue", "explain"])
        self.assertRegex(self.about["name"], r"^ascribe-lm \d")
        self.assertEqual((self.about["restarts"], self.about["error"], self.about["fingerprint"]),
                         (0, None, None))

    def test_the_gradient_is_that_of_the_program(self):
        out = self.scratch() + "/q"
        said = json.loads(lm("query", *self.options, "--prompt", "Town 3: a town of", "--target",
                             " Quend", "--out", out))
        reply = self.encode("Town 3: a town of", " Quend")
        self.assertEqual(reply.headers["Content-Type"], "application/vnd.safetensors")
        tensors, notes = h.read_tensors(reply.body)
        with open(out, "rb") as f:
            want, _ = h.read_tensors(f.read())
        self.assertEqual(tensors["queries"][1].tobytes(), want["queries"][1].tobytes())
        self.assertEqual((notes["prompt"], notes["target"]), ("Town 3: a town of", " Quend"))
        self.assertAlmostEqual(float(notes["loss"]), said["loss"], places=4)
        self.assertGreater(float(notes["took_ms"]), 0)

    def test_the_answer_is_the_body_of_a_query(self):
        body = self.encode("Town 3: a town of", " Quend").body
        reply = self.assert_status(self.client.post("/v1/corpora/towns/query?k=3", body), 200)
        self.assertEqual(len(reply.json()["results"][0]["proponents"]), 3)

    def test_the_continuation_is_that_of_the_program(self):
        said = json.loads(lm("query", *self.options, "--prompt", "Town 4: a town of", "--tokens", "6",
                             "--target", "x"))
        reply = self.client.post("/v1/encoder/continue", {"prompt": "Town 4: a town of", "tokens": 6})
        answer = self.assert_status(reply, 200).json()
        self.assertEqual(set(answer), {"prompt", "output", "took_ms"})
        self.assertEqual(answer["output"], said["continuation"])
        self.assertTrue(answer["output"])

    def test_what_is_asked_wrongly(self):
        for path, body, field in (("encode", {"prompt": "a"}, "target"),
                                  ("encode", {"prompt": "a", "target": ""}, "target"),
                                  ("encode", {"target": "a"}, "prompt"),
                                  ("encode", {"prompt": "a", "target": "b", "k": 1}, "k"),
                                  ("encode", {"prompt": "a" * 65537, "target": "b"}, "prompt"),
                                  ("continue", {"tokens": 3}, "prompt"),
                                  ("continue", {"prompt": "a", "tokens": 0}, "tokens"),
                                  ("continue", {"prompt": "a", "tokens": 1025}, "tokens")):
            with self.subTest(path=path, field=field):
                reply = self.client.post("/v1/encoder/" + path, body)
                self.assert_problem(reply, 413 if reply.status == 413 else 400,
                                    "too_large" if reply.status == 413 else "invalid_request", field)

    def test_a_text_that_is_too_long_is_refused_in_its_words(self):
        reply = self.client.post("/v1/encoder/encode", {"prompt": "", "target": "!1" * 9000})
        problem = self.assert_problem(reply, 502, "encoder_failed")
        self.assertIn("tokens, at most 4096", problem["detail"])
        self.assert_status(self.encode("a", "b"), 200)
        self.assertEqual(self.client.get("/v1/encoder").json()["restarts"], 0)

    def test_many_at_once_are_answered_in_turn(self):
        want = self.encode("Town 1: a town of", " Ostria").body
        want = h.read_tensors(want)[0]["queries"][1]
        wrong = []

        def ask(number):
            client = self.server.client()
            for i in range(5):
                target = " Ostria" if (number + i) % 2 else " Pell"
                reply = client.post("/v1/encoder/encode", {"prompt": "Town 1: a town of", "target": target})
                same = reply.status == 200 and np.array_equal(
                    h.read_tensors(reply.body)[0]["queries"][1], want)
                if same != (target == " Ostria"):
                    wrong.append((target, reply))
            client.close()
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_metrics(self):
        self.encode("a", "b")
        text = self.client.get("/metrics").body.decode()
        self.assertRegex(text, r"(?m)^ascribe_encoder_ready 1$")
        self.assertGreater(int(re.search(r"(?m)^ascribe_encoder_requests_total (\d+)$", text)[1]), 0)
        self.assertGreater(float(re.search(r"(?m)^ascribe_encoder_seconds_total ([\d.]+)$", text)[1]), 0)


class Command(Model):
    """ascribe ask."""

    def ask(self, *args, code=0, server=None):
        server = server or self.server
        done = subprocess.run([h.program("ascribe"), "ask", "--server", server.url, "--store", server.store, *args],
                              capture_output=True, text=True, timeout=60 * h.SLOW, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        return done

    def test_what_the_model_says(self):
        said = self.client.post("/v1/encoder/continue", {"prompt": "Town 4: a town of"}).json()["output"]
        done = self.ask("towns", "Town 4: a town of", "-k", "3", "--explain", "2")
        self.assertTrue(done.stdout.startswith(f"Town 4: a town of[{said}]  (what the model says)\n"), done.stdout)
        self.assertEqual(done.stderr, "")
        self.assertEqual(len(re.findall(r"(?m)^ +[123]  [+-]\d\.\d{6}  t\d+", done.stdout)), 3)
        sums = re.findall(r"tokens of (t\d+): \d+, sum ([+-][\d.]+) of ([+-][\d.]+)", done.stdout)
        self.assertEqual(len(sums), 2)
        for _, total, score in sums:
            self.assertAlmostEqual(float(total), float(score), delta=2e-5)

    def test_a_target_as_json(self):
        told = json.loads(self.ask("towns", "Town 3: a town of", "-t", " Quend", "-k", "4", "-o", "2", "--json").stdout)
        self.assertEqual((told["prompt"], told["target"], told["generated"]), ("Town 3: a town of", " Quend", False))
        body = self.encode("Town 3: a town of", " Quend").body
        want = self.client.post("/v1/corpora/towns/query?k=4&opponents=2", body).json()["results"]
        self.assertEqual(told["answer"]["results"], want)

    def test_another_model_is_said(self):
        self.client.put("/v1/corpora/foreign", {"dim": DIM, "model": "somebody else's"})
        self.ingest(self.client, "foreign", "b", np.ones((1, DIM)), ["one"])
        done = self.ask("foreign", "Town 3", "-t", " Quend")
        self.assertIn("corpus foreign is of somebody else's: the scores mean nothing", done.stderr)

    def test_what_fails(self):
        self.assertIn("unknown_corpus", self.ask("nowhere", "a", "-t", "b", code=2).stderr)
        self.assertIn("encoder_failed", self.ask("towns", "", "-t", "!1" * 9000, code=4).stderr)
        self.ask("towns", "a", "-k", "0", code=1)
        other = self.serve()
        self.assertIn("no_encoder", self.ask("towns", "a", code=2, server=other).stderr)


class Explaining(Model):
    """`sum` against `score`, in order: cosine of gradients, whitened, under a task; and dot products."""

    def explain(self, id, body, **parameters):
        query = "&".join(f"{k}={v}" for k, v in parameters.items())
        reply = self.client.post(f"/v1/corpora/towns/examples/{id}/explain?{query}", body)
        return self.assert_status(reply, 200).json()

    def check(self, body, **parameters):
        """Every example's sum is its score, and its score that of the query."""
        query = "&".join(f"{k}={v}" for k, v in parameters.items())
        reply = self.client.post(f"/v1/corpora/towns/query?k=60&text=0&{query}", body)
        hits = self.assert_status(reply, 200).json()["results"][0]["proponents"]
        self.assertEqual(len(hits), 60)
        size = max(abs(hit["score"]) for hit in hits)
        for hit in hits[:3] + hits[28:31] + hits[-3:] + [x for x in hits if x["id"] in ("t7", "t8")]:
            answer = self.explain(hit["id"], body, **parameters)
            text = self.texts[hit["id"]].encode()
            self.assertEqual(answer["score"], hit["score"])
            self.assertAlmostEqual(answer["sum"], answer["score"], delta=1e-5 * size)
            tokens = answer["tokens"]
            self.assertAlmostEqual(sum(t["score"] for t in tokens), answer["sum"], delta=1e-9 * size)
            self.assertEqual([t["from"] for t in tokens], [0] + [t["to"] for t in tokens[:-1]])
            self.assertEqual(tokens[-1]["to"], len(text))
            for t in tokens:
                self.assertEqual(t["text"].encode(), text[t["from"]:t["to"]])

    def test_shares_sum_to_the_score(self):
        body = self.encode("Town 3: a town of", " Quend").body
        for score in ("cosine", "dot"):
            self.check(body, score=score)
        job = self.wait_job(self.client, self.client.post("/v1/corpora/towns/fit"))
        self.assertEqual(job["state"], "succeeded", job)
        for score in ("cosine", "dot"):
            self.check(body, score=score)
        rows = [h.read_tensors(self.encode(f"Town {i}: a town of", " Pell").body)[0]["queries"][1]
                for i in range(4)]
        task = h.tensors([h.matrix("gradients", np.vstack(rows))])
        job = self.wait_job(self.client, self.client.put("/v1/corpora/towns/tasks/pell?lambda=0.8", task))
        self.assertEqual(job["state"], "succeeded", job)
        for score in ("cosine", "dot"):
            self.check(body, score=score, task="pell")

    def test_a_saved_query(self):
        g = h.read_tensors(self.encode("Town 3: a town of", " Quend").body)[0]["queries"][1][0]
        reply = self.client.put("/v1/corpora/towns/queries/q", {"gradient": [float(x) for x in g]})
        self.assert_status(reply, 200, 201)
        reply = self.client.post("/v1/corpora/towns/examples/t1/explain?saved=q")
        self.assertIn("tokens", self.assert_status(reply, 200).json())

    def test_what_cannot_be_explained(self):
        body = self.encode("a", "b").body
        two = h.queries(np.ones((2, DIM), "f4"))
        for path, sent, status, code, field in (
                ("towns/examples/nobody/explain", body, 404, "unknown_example", None),
                ("nowhere/examples/t1/explain", body, 404, "unknown_corpus", None),
                ("towns/examples/t1/explain?task=none", body, 404, "unknown_task", "task"),
                ("towns/examples/t1/explain?score=x", body, 400, "invalid_request", "score"),
                ("towns/examples/t1/explain", two, 400, "invalid_request", "queries"),
                ("towns/examples/t1/explain", h.queries(np.zeros(DIM)), 422, "zero_gradient", "queries")):
            with self.subTest(path=path):
                self.assert_problem(self.client.post("/v1/corpora/" + path, sent), status, code, field)
        self.create(self.client, "other", 16)
        self.ingest(self.client, "other", "b", np.ones((2, 16)), [{"id": "a", "text": "t"}, {"id": "b"}])
        one = h.queries(np.ones(16))
        self.assert_problem(self.client.post("/v1/corpora/other/examples/a/explain", one), 422,
                            "wrong_dimension")
        self.assert_problem(self.client.post("/v1/corpora/other/examples/b/explain", one), 400,
                            "invalid_request", "id")


class ExplainingFactors(Explaining):
    optimizer = "adafactor"


class ExplainingUndivided(Explaining):
    second = "none"

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_encoder.py")


class Bad(h.Case):
    """One server, one bad encoder a test; after each the next good request is answered well."""

    def start(self, mode, *args, timeout_ms=20000, env=None):
        """A server with that encoder; self.starts() reads what the encoder wrote at its starts."""
        self.notes = self.scratch() + "/notes"
        command = f"/usr/bin/python3 '{FAKE}' {mode} '{self.notes}' 'a b' \"c\\\"d\" $HOME"
        self.server = self.serve(["--encoder", command, "--encoder-timeout-ms", str(timeout_ms), *args], env)
        self.client = self.server.client()
        self.addCleanup(self.client.close)
        return wait_state(self.client, "ready", "failed")

    def starts(self):
        with open(self.notes) as f:
            return [json.loads(line) for line in f]

    def encode(self, target, prompt="four", client=None):
        return (client or self.client).post("/v1/encoder/encode", {"prompt": prompt, "target": target})

    def encode_and_forget(self, client, replies=None):
        """A bad question whose client may be cut off."""
        try:
            reply = self.encode("bad", client=client)
        except (OSError, http.client.HTTPException):
            return
        if replies is not None:
            replies.append(reply)

    def good(self, prompt="a prompt"):
        """The encoder answers, and it is the answer to this question."""
        reply = self.assert_status(self.encode("good", prompt), 200)
        values = h.read_tensors(reply.body)[0]["queries"][1]
        self.assertEqual(values.tolist(), [[len(prompt), 1, 0, 0]])

    def bad(self, mode, words, restarts=1, status=502, code="encoder_failed", **kw):
        """A bad answer has this message; then a good question, in a pause already, is answered."""
        self.assertEqual(self.start(mode, **kw)["state"], "ready")
        problem = self.assert_problem(self.encode("bad"), status, code)
        self.assertRegex(problem["detail"], words)
        self.good()
        self.assertEqual(self.client.get("/v1/encoder").json()["restarts"], restarts)
        self.assertIn(f"ascribe_encoder_restarts_total {restarts}\n".encode(),
                      self.client.get("/metrics").body)
        self.assertRegex(self.client.get("/metrics").body, rb"\nascribe_encoder_failures_total 1\n")

    def test_garbage(self):
        self.bad("garbage", r'no sense: its answer is no JSON object: "loading model')

    def test_the_answer_to_another_question(self):
        self.bad("wrong-id", r"it answered request 3, but 2 was asked")

    def test_wrong_dim(self):
        self.bad("wrong-dim", r"gradient: 3 elements, but its hello said 4", restarts=0)

    def test_nan(self):
        self.bad("nan", r"element 1 is NaN or infinite", restarts=0)

    def test_zero(self):
        self.bad("zero", r"all zeros", restarts=0)

    def test_another_tensor(self):
        self.bad("no-tensor", r"the encoder's answer: .*other", restarts=0)

    def test_it_dies_in_the_middle_of_an_answer(self):
        self.bad("half", r"ended with exit code 3 in the middle of an answer")

    def test_it_is_killed_and_its_last_words_are_told(self):
        self.bad("dies", r"ended by signal 9 .*its last words: out of memory on device 0")

    def test_it_hangs(self):
        self.bad("hangs", r"did not answer within 1000 ms", status=504, code="encoder_timeout",
                 timeout_ms=1000)
        self.assertEqual(len(self.starts()), 2)
        self.assertFalse(living(self.starts()[0]["pid"]))

    def test_an_answer_after_the_timeout_is_nobodys(self):
        self.bad("late", r"did not answer within 1000 ms", status=504, code="encoder_timeout",
                 timeout_ms=1000)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            self.good()

    def test_it_floods_its_output(self):
        self.bad("floods", r"first line of more than 1048576 bytes")

    def test_a_line_of_a_gigabyte(self):
        before = self.start("huge-line")
        anon, _ = self.server.rss_kib()
        problem = self.assert_problem(self.encode("bad"), 502, "encoder_failed")
        self.assertIn("first line of more than 1048576 bytes", problem["detail"])
        self.good()
        self.assertLess(self.server.rss_kib()[0] - anon, 64 << 10, before)

    def test_a_body_of_a_terabyte(self):
        self.bad("huge-body", r"announces 1099511627776 bytes; at most 33554432")

    def test_it_closes_its_output(self):
        self.bad("mute", r"closed its output")

    def test_it_closes_its_input(self):
        self.start("deaf")
        self.assert_status(self.encode("bad"), 200)  # and closes its input after it
        first = self.encode("good")
        if first.status != 200:
            self.assertRegex(self.assert_problem(first, 502, "encoder_failed")["detail"], "closed its input")
        self.good()
        self.assertEqual(len(self.starts()), 2)

    def test_it_speaks_unasked(self):
        self.start("unasked")
        self.assert_status(self.encode("bad"), 200)
        h.wait_until(lambda: self.client.get("/v1/encoder").json()["restarts"] == 1, "the restart")
        self.assertIn("it spoke unasked", "\n".join(self.server.log))
        wait_state(self.client, "ready")
        self.good()

    def test_it_refuses(self):
        self.bad("refuses", r"the encoder refused: not today \?\[31m", restarts=0)

    def test_a_continuation_that_is_no_text(self):
        self.start("outputs")
        reply = self.client.post("/v1/encoder/continue", {"prompt": "a"})
        self.assertEqual(self.assert_status(reply, 200).json()["output"], " and so on")

    def test_a_verb_that_it_lacks(self):
        self.start("good")
        self.create(self.client, "c", 4)
        self.ingest(self.client, "c", "b", np.eye(4), [{"id": f"e{i}", "text": "t"} for i in range(4)])
        reply = self.client.post("/v1/corpora/c/examples/e1/explain", h.queries(np.ones(4)))
        problem = self.assert_problem(reply, 502, "encoder_failed")
        self.assertIn("the encoder fake has no verb explain", problem["detail"])

    def test_it_never_says_hello(self):
        about = self.start("silent", timeout_ms=300)
        self.assertEqual(about["state"], "failed")
        self.assertRegex(about["error"], r"did not say hello within 300 ms")
        problem = self.assert_problem(self.encode("good"), 502, "encoder_failed")
        self.assertIn("did not say hello", problem["detail"])

    def test_it_cannot_start(self):
        about = self.start("dead")
        self.assertRegex(about["error"], r"ended with exit code 1; its last words: there is no model here")
        self.assert_problem(self.encode("good"), 502, "encoder_failed")
        self.assert_status(self.client.get("/readyz"), 200)

    def test_a_hello_without_a_name_or_dim(self):
        self.assertIn("its hello needs name", self.start("nameless")["error"])
        self.assertIn("its hello needs dim, a whole number from 1 to 1048576", self.start("dimless")["error"])

    def test_a_program_that_is_not_there(self):
        server = self.serve(["--encoder", "/nowhere/encoder --model x"])
        about = wait_state(server.client(), "failed")
        self.assertRegex(about["error"], r"127; its last words: cannot run encoder: No such file")
        self.assertIn("cannot run /nowhere/encoder: No such file", server.tail())  # whole where operators read

    def test_a_log_of_200000_lines_is_bounded(self):
        self.start("shouts")
        self.assert_status(self.encode("bad"), 200)
        said = [x for x in self.server.log if 'msg="encoder says"' in x]
        self.assertIn("line 0 of a very long log", said[0])
        self.assertTrue(any(re.search(r"and \d+ lines more", x) for x in said))
        self.assertLess(len(said), 20000)

    def test_it_never_succeeds_twice_and_pauses_grow(self):
        self.start("garbage")
        for _ in range(5):
            self.encode("bad")
        about = wait_state(self.client, "failed")
        self.assertIn("no JSON object", about["error"])
        self.assert_problem(self.encode("good"), 502, "encoder_failed")
        wait_state(self.client, "ready")
        self.good()

    def test_nothing_else_is_slowed(self):
        self.start("hangs", "--threads", "2")
        self.create(self.client, "c", 4)
        self.ingest(self.client, "c", "b", np.eye(4), [f"e{i}" for i in range(4)])
        clients = [self.server.client() for _ in range(6)]
        threads = [threading.Thread(target=self.encode_and_forget, args=(c,)) for c in clients]
        for t in threads:
            t.start()
        h.wait_until(lambda: self.client.get("/v1/encoder").json()["waiting"] == 5, "five that wait")
        begin = time.monotonic()
        for i in range(20):
            self.assert_status(self.client.post("/v1/corpora/c/query?k=2", h.queries(np.eye(4)[i % 4])), 200)
        self.assertLess(time.monotonic() - begin, 5 * h.SLOW)
        self.server.process.send_signal(signal.SIGKILL)  # its encoder hangs: a drain would wait for it
        for t in threads:
            t.join(30)
        self.server.process.wait()
        self.server.process = None

    def test_a_full_queue_is_busy_at_once(self):
        self.start("slow")
        clients = [self.server.client() for _ in range(40)]
        replies = []
        threads = [threading.Thread(target=self.encode_and_forget, args=(c, replies)) for c in clients]
        for t in threads:
            t.start()
        h.wait_until(lambda: len([r for r in replies if r.status == 503]) >= 7, "the refused")
        problem = self.assert_problem(next(r for r in replies if r.status == 503), 503, "busy", limit=32)
        self.assertIn("wait for the encoder", problem["detail"])
        for c in clients:  # those that wait leave: nothing is asked for them
            if c.conn and c.conn.sock:
                c.conn.sock.shutdown(2)
        for t in threads:
            t.join(60)
        h.wait_until(lambda: self.client.get("/v1/encoder").json()["waiting"] == 0, "an empty queue")
        self.good()

    def test_a_client_that_leaves_does_not_confuse_the_next(self):
        self.start("slow")
        for _ in range(2):
            leaving = self.server.client()
            leaving.timeout = 0.2  # however slow the build is
            with self.assertRaises(OSError):
                self.encode("bad", client=leaving)
            self.good("another prompt")
        self.assertEqual(len(self.starts()), 1)

    def test_what_it_inherits(self):
        self.start("good", env={"ASCRIBE_KEY": "asc_not_for_it", "ASCRIBE_KEY_FILE": "x", "HOME": "/h"})
        seen, = self.starts()
        self.assertEqual(seen["keys"], [])
        self.assertEqual(seen["args"], ["a b", 'c"d', "$HOME"])
        self.assertLessEqual(set(seen["fds"]), set(range(6)))  # its own: a copy of 1, the file, the listing

    def test_it_ends_with_the_server(self):
        for mode in ("good", "stays"):
            self.start(mode)
            pid = self.starts()[0]["pid"]
            self.assertEqual(children(self.server.process.pid), [pid])
            begin = time.monotonic()
            self.server.stop()
            self.assertLess(time.monotonic() - begin, 5 * h.SLOW)
            self.assertFalse(living(pid))

    def test_a_drain_finishes_what_was_asked(self):
        self.start("slow")
        got = []
        thread = threading.Thread(target=lambda: got.append(self.encode("bad")))
        thread.start()
        time.sleep(0.3)
        self.server.stop()
        thread.join(30)
        self.assertEqual([r.status for r in got], [200])

    def test_it_ends_with_a_server_that_is_killed(self):
        self.start("stays")
        pid = self.starts()[0]["pid"]
        self.server.kill()
        h.wait_until(lambda: not living(pid), "the orphan's end", 10)

    def test_a_command_that_cannot_be_split(self):
        for command, words in (("a 'b", "without its end"), ("a \\", "without its end"), ("  ", "no program"),
                               ("'' a", "no program")):
            done = h.offline("serve", "--store", self.scratch(), "--encoder", command, check=1)
            self.assertRegex(done.stderr, f"encoder: .*{words}")


if __name__ == "__main__":
    h.main()
