"""test_demo.py - the demo: its corpus is what it says, and the whole of it runs, small.

The mix is read back and judged here by means of its own: every sum is computed again, no line of
arithmetic is one the prompts ask for, ids and texts are there once.
"""
import json
import os
import re
import subprocess
import sys
import unittest

import harness as h

DEMO = os.path.join(h.ROOT, "client/demo")
KINDS = ("facts", "commonsense", "arithmetic", "open-ended")
SMALL = "--passages 120 --sums 100 --everyday 100"


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def prompts():
    return [p for kind in KINDS for p in lines(os.path.join(DEMO, "prompts", kind + ".jsonl"))]


def mix(out, *more):
    return subprocess.run([sys.executable, "-B", os.path.join(DEMO, "mix.py"), "--out", out, *more],
                          capture_output=True, text=True, check=False)


class Mix(h.Case):
    @classmethod
    def setUpClass(cls):
        where = h.tempfile.mkdtemp(prefix="ascribe-test-")
        cls.addClassCleanup(h.shutil.rmtree, where, ignore_errors=True)
        path = os.path.join(where, "corpus.jsonl")
        cls.told = mix(path, "--tasks", os.path.join(where, "tasks"),
                       "--lessons", os.path.join(where, "lessons.jsonl"))
        cls.where, cls.corpus = where, lines(path)

    def of(self, source):
        return [e for e in self.corpus if e["meta"]["source"] == source]

    def test_sizes(self):
        self.assertEqual(self.told.returncode, 0, self.told.stderr)
        self.assertEqual([len(self.of(s)) for s in ("wordnet", "arithmetic", "everyday")], [11000, 4000, 5000])
        self.assertIn("20,000 examples", self.told.stderr)

    def test_each_once(self):
        self.assertEqual(len({e["id"] for e in self.corpus}), 20000)
        for source in ("arithmetic", "everyday"):
            self.assertEqual(len({e["text"] for e in self.of(source)}), len(self.of(source)))

    def test_the_same_again(self):
        again = os.path.join(self.scratch(), "corpus.jsonl")
        self.assertEqual(mix(again).returncode, 0)
        self.assertEqual(lines(again), self.corpus)

    def test_every_sum_is_true(self):
        rules = {"sum": lambda a, b: a + b, "difference": lambda a, b: a - b, "product": lambda a, b: a * b,
                 "quotient": lambda a, b: a / b, "next": lambda a, b: a + b, "double": lambda a, b: a * b,
                 "half": lambda a, b: a / b}
        spelled = 0
        for example in self.of("arithmetic"):
            m = example["meta"]
            self.assertEqual(rules[m["operation"]](m["a"], m["b"]), m["result"], example)
            said = {int(n) for n in re.findall(r"\d+", example["text"])}
            if said:  # of what is said in digits each is one of the three numbers, the result among them
                self.assertLessEqual(said, {m["a"], m["b"], m["result"]}, example)
                self.assertIn(m["result"], said, example)
            spelled += not said
        self.assertGreater(spelled, 400)

    def test_prompts_are_not_in_the_arithmetic(self):
        asked = tuple(p["prompt"] for p in prompts() if p["kind"] == "arithmetic")
        self.assertEqual([e["text"] for e in self.of("arithmetic") if e["text"].startswith(asked)], [])

    def test_prompts_of_facts_begin_a_passage(self):
        texts = [e["text"] for e in self.of("wordnet")]
        for p in prompts():
            if p["kind"] == "facts":
                self.assertTrue(any(t.startswith(p["prompt"] + p["target"]) or
                                    (t.startswith(p["prompt"]) and p["target"] in t) for t in texts), p)

    def test_prompt_sets(self):
        names = [p["name"] for p in prompts()]
        self.assertEqual(len(set(names)), len(names))
        for name in names:
            self.assertRegex(name, r"^[a-z0-9][a-z0-9_-]{0,62}$")
        for kind in KINDS:
            of = [p for p in prompts() if p["kind"] == kind]
            self.assertGreaterEqual(len(of), 8)
            for p in of:
                self.assertEqual("target" in p, kind != "open-ended", p)
                self.assertLessEqual(set(p), {"name", "kind", "prompt", "target"})

    def test_evaluation_sets(self):
        asked = {p["prompt"] for p in prompts()}
        for name in ("facts", "commonsense", "arithmetic"):
            task = lines(os.path.join(self.where, "tasks", name + ".jsonl"))
            self.assertEqual(len(task), 200)
            for one in task:
                self.assertTrue(one["prompt"] and one["target"].startswith(" "), one)
                self.assertNotIn(one["prompt"], asked)

    def test_lessons_repeat_what_is_short(self):
        read = lines(os.path.join(self.where, "lessons.jsonl"))
        self.assertEqual(len({e["id"] for e in read}), len(read))
        self.assertEqual(len(read), 11000 + 3 * 9000)
        self.assertEqual({e["text"] for e in read}, {e["text"] for e in self.corpus})

    def test_too_many_are_refused(self):
        for option, count in (("--sums", "99999"), ("--everyday", "99999"), ("--passages", "999999")):
            done = mix(os.path.join(self.scratch(), "x"), option, count)
            self.assertEqual(done.returncode, 1)
            self.assertIn("wanted", done.stderr)


class Whole(h.Case):
    def assert_served(self, env, build, folder):
        """serve.sh: the store, and the model behind it that answers in words."""
        process = subprocess.Popen(["sh", os.path.join(DEMO, "serve.sh"), build], stderr=subprocess.PIPE, text=True,
                                   env={**env, "DEMO_LISTEN": "127.0.0.1:0"})
        self.addCleanup(process.stderr.close)
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "encoder ready" in line or "encoder failed" in line:
                    break
            self.assertIn("encoder ready", said[-1] if said else "nothing", said)
            port = next(int(line.rsplit(":", 1)[1]) for line in said if line.startswith("ready listen="))
            with open(os.path.join(folder, "store", "admin.key"), encoding="ascii") as f:
                client = h.Client(("127.0.0.1", port), f.read().strip())
            about = self.assert_status(client.get("/v1/encoder"), 200).json()
            self.assertEqual((about["state"], about["dim"]), ("ready", 1024))
            client.close()
        finally:
            process.terminate()
            process.stderr.read()
            self.assertEqual(process.wait(60 * h.SLOW), 0)

    def test_demo_runs_and_saves_its_prompts(self):
        folder = os.path.join(self.scratch(), "a demo's folder")
        build = os.path.join(self.scratch(), "the build")  # blanks everywhere: paths are whole words
        os.symlink(os.path.dirname(h.program("ascribed")), build)
        env = {**os.environ, "DEMO_DIR": folder, "DEMO_MIX": SMALL, "DEMO_STEPS": "60", "DEMO_DIM": "1024"}
        done = subprocess.run(["sh", os.path.join(DEMO, "demo.sh"), build], env=env, text=True,
                              capture_output=True, timeout=300 * h.SLOW, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        for kind in KINDS:
            self.assertRegex(done.stdout, rf" \d+ prompts of kind {kind}")
        server = self.serve(store=os.path.join(folder, "store"))
        client = server.client()
        corpus = self.assert_status(client.get("/v1/corpora/demo"), 200).json()
        self.assertEqual((corpus["examples"], corpus["whitened"]), (320, True))
        tasks = client.get("/v1/corpora/demo/tasks").json()["tasks"]
        self.assertEqual({t["name"] for t in tasks}, {"facts", "commonsense", "arithmetic"})
        saved = client.get("/v1/corpora/demo/queries?limit=1000").json()["queries"]
        self.assertEqual({q["name"] for q in saved}, {p["name"] for p in prompts()})
        for query in saved:
            self.assertTrue(query["output"] or query["target"], query)
            self.assertRegex(query["tags"][0], "^kind:")
            answer = client.post(f"/v1/corpora/demo/query?saved={query['name']}&k=10"
                                 + (f"&task={query['methods']['task']}" if query["methods"]["task"] else ""))
            hits = self.assert_status(answer, 200).json()["results"][0]["proponents"]
            patch = query["methods"]["tail_patch"]
            self.assertLessEqual({hit["id"] for hit in hits}, set(patch))
            self.assertTrue(all(-1 <= value <= 1 for value in patch.values()))
        self.assertEqual(len(lines(os.path.join(folder, "lists.jsonl"))), len(saved))
        server.stop()
        self.assert_served(env, build, folder)
        drawn = self.scratch()
        picture = subprocess.run([sys.executable, "-B", os.path.join(DEMO, "picture.py"),
                                  os.path.join(folder, "lists.jsonl"), drawn],
                                 capture_output=True, text=True, check=False)
        self.assertEqual(picture.returncode, 0, picture.stderr)
        self.assertIn("rank correlation", picture.stdout)
        for name in ("influence-ranks.svg", "influence-scores.svg"):
            with open(os.path.join(drawn, name), encoding="utf-8") as f:
                self.assertTrue(f.read().endswith("</svg>\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
