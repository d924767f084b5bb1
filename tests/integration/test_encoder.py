"""test_encoder.py - the encoder: ascribe-lm behind the server, and programs that are no encoders.

Good: a corpus ingested by ascribe-lm is asked in words through the server, and what each token adds
to a score sums to that score, in every kind of score. Bad: an encoder that prints garbage, answers
another's request, dies, hangs, floods, goes deaf: each has a clear message, the server lives, and
nothing else is slowed.
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy as np

import harness as h
from test_lm_files import DIM, SEED, write_corpus

LM = None


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


if __name__ == "__main__":
    h.main()
