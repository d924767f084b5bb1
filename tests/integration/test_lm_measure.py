"""test_lm_measure.py - what ascribe-lm measures of a model, through its command line: checkpoints on
the way of a training run, tail-patch, score. Log-probabilities are judged by the numpy network of
test_lm_files.py; that a step is the right step is the unit tests' matter (test_tail_patch.c)."""
import json
import os
import subprocess
import tempfile
import unittest

import test_lm_files as files

import harness

TRAIN = ["--steps", 30, "--vocab", 320, "--context", files.CONTEXT, "--layers", files.LAYERS, "--width",
         files.WIDTH, "--heads", files.HEADS, "--batch", 12, "--rate", "1e-2"]
TOWN = {"id": "t3", "text": "Town 3: a town of Quend; founded in 1903."}
OTHER = {"id": "t5", "text": "Town 5: a town of Norland; founded in 1905."}
PATCH = [
    {"id": "q3", "prompt": "Town 3: a town of", "target": " Quend", "passages": [TOWN, OTHER]},
    {"id": "q5 \"é\"", "prompt": "Town 5: a town of", "target": " Norland", "passages": [OTHER, TOWN, OTHER]},
]


class LmMeasure(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lm = harness.program("ascribe-lm")
        cls.scratch = tempfile.TemporaryDirectory(prefix="ascribe-lm-")
        cls.corpus, cls.model = cls.path("corpus.jsonl"), cls.path("model.ckpt")
        files.write_corpus(cls.corpus)
        cls.said = json.loads(cls.run_lm("train", "--data", cls.corpus, "--out", cls.model,
                                         "--checkpoint-steps", "5,20,30", *TRAIN))
        _, cls.tensors = files.read_tensors(cls.model)
        cls.tokenizer = files.Tokenizer(cls.tensors["tokenizer.merges"])

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.scratch.name, name)

    @classmethod
    def run_lm(cls, *args, code=0):
        done = subprocess.run([cls.lm, *map(str, args)], capture_output=True, text=True,
                              timeout=60 * harness.SLOW)
        if done.returncode != code:
            raise AssertionError(f"{args}: exit {done.returncode}: {done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def pairs(self, lines, name="pairs.jsonl"):
        with open(self.path(name), "w", encoding="utf-8") as out:
            out.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        return self.path(name)

    def ask(self, verb, lines, *more, model=None):
        """(the file's lines, what was printed)"""
        out = self.path(f"{verb}.out")
        printed = self.run_lm(verb, "--model", model or self.model, "--pairs", self.pairs(lines), "--out",
                              out, *more)
        with open(out, encoding="utf-8") as f:
            return [json.loads(line) for line in f], json.loads(printed)

    def log_probability(self, tensors, prompt, text):
        given = self.tokenizer.encode(prompt)
        return -files.Model(tensors).gradient(given + self.tokenizer.encode(text), len(given))[0]

    def test_checkpoints_on_the_way(self):
        kept = [self.path(f"model.step{n}.ckpt") for n in (5, 20, 30)]
        self.assertEqual(self.said["checkpoints"], 4)
        facts = [files.read_tensors(path)[0] for path in [*kept, self.model]]
        self.assertEqual([int(f["steps"]) for f in facts], [5, 20, 30, 30])
        with open(kept[2], "rb") as a, open(self.model, "rb") as b:
            self.assertEqual(a.read(), b.read(), "the last step's is the final model")
        self.assertEqual(len({f["checksum"] for f in facts}), 3)
        # the same model as a run that keeps nothing on the way
        plain = json.loads(self.run_lm("train", "--data", self.corpus, "--out", self.path("plain"), *TRAIN))
        self.assertEqual(plain["model"], self.said["model"])
        self.assertEqual(plain["checkpoints"], 1)
        # each is a whole model: its loss falls, it encodes
        lines = [{"id": "a", "prompt": "Town 3: a town", "target": " of Quend; founded in 19"}]
        known = [self.ask("score", lines, model=path)[0][0]["log_probability"] for path in kept]
        self.assertLess(known[0] + 1, known[1])
        self.assertLess(known[1], known[2])
        for path in kept[:2]:
            self.run_lm("encode", "--model", path, "--data", self.corpus, "--out", path + ".enc", "--dim",
                        files.DIM)
            _, batch = files.read_tensors(next(
                os.path.join(path + ".enc", n) for n in os.listdir(path + ".enc") if n.startswith("b0")))
            self.assertEqual(batch["gradients"].shape, (60, files.DIM))

    def test_tail_patch(self):
        lines, said = self.ask("tail-patch", PATCH, "--rate", "1e-3")
        self.assertEqual([line["id"] for line in lines], [p["id"] for p in PATCH])
        self.assertEqual((said["pairs"], said["passages"], said["steps"], said["optimizer"]),
                         (2, 5, 2, "adam"))
        for line, pair in zip(lines, PATCH):
            self.assertEqual([p["id"] for p in line["passages"]], [p["id"] for p in pair["passages"]])
            want = self.log_probability(self.tensors, pair["prompt"], pair["target"])
            self.assertAlmostEqual(line["log_probability"], want, places=4)
            self.assertAlmostEqual(line["probability"], 2.718281828459045**want, places=4)
            own, other = line["passages"][:2]
            self.assertGreater(own["d_log_probability"], max(0, other["d_log_probability"]))
            for p in line["passages"]:
                after = 2.718281828459045 ** (line["log_probability"] + p["d_log_probability"])
                self.assertAlmostEqual(p["d_probability"], after - line["probability"], places=6)
        self.assertEqual(lines[1]["passages"][0], lines[1]["passages"][2])
        # neither the order nor the threads nor the others matter
        again, _ = self.ask("tail-patch", PATCH[::-1], "--rate", "1e-3", "--threads", 3)
        self.assertEqual(again[::-1], lines)
        alone, _ = self.ask("tail-patch", [dict(PATCH[0], passages=[OTHER])], "--rate", "1e-3")
        self.assertEqual(alone[0]["passages"], [lines[0]["passages"][1]])
        # a larger step does more; no step does nothing
        more, _ = self.ask("tail-patch", PATCH, "--rate", "2e-3")
        self.assertGreater(more[0]["passages"][0]["d_log_probability"],
                           lines[0]["passages"][0]["d_log_probability"])
        none, _ = self.ask("tail-patch", PATCH, "--rate", "0")
        self.assertEqual({p["d_log_probability"] for line in none for p in line["passages"]}, {0.0})

    def test_tail_patch_by_other_optimizers(self):
        plain, said = self.ask("tail-patch", PATCH, "--rate", "1e-2", "--optimizer", "sgd")
        self.assertEqual(said["optimizer"], "sgd")
        path = self.path("adafactor.ckpt")
        self.run_lm("train", "--data", self.corpus, "--out", path, "--optimizer", "adafactor", *TRAIN)
        lines, said = self.ask("tail-patch", PATCH, "--rate", "1e-3", model=path)
        self.assertEqual(said["optimizer"], "adafactor")
        for line in plain + lines:
            self.assertGreater(line["passages"][0]["d_log_probability"], 0)

    def test_score(self):
        towns = [" " + name for name in files.PLACES]
        pairs = [{"id": f"f{i}", "prompt": f"Town {i}: a town of", "target": towns[i % 5],
                  "candidates": towns + [" Pell and Quend"]} for i in (3, 11, 25)]
        pairs.append({"id": "alone", "prompt": "", "target": "Town"})
        lines, said = self.ask("score", pairs)
        self.assertEqual([line["id"] for line in lines], [p["id"] for p in pairs])
        for line, pair in zip(lines, pairs):
            want = [self.log_probability(self.tensors, pair["prompt"], text)
                    for text in [pair["target"], *pair.get("candidates", [])]]
            for got, w in zip([line["log_probability"], *line["candidates"]], want):
                self.assertAlmostEqual(got, w, places=4)
            self.assertEqual(len(line["candidates"]), len(want) - 1)
            self.assertEqual(line["rank"], 1 + sum(w > want[0] for w in want[1:]))
        self.assertTrue(lines[3]["greedy"], "every passage begins so")
        self.assertEqual(said["prompts"], 4)
        self.assertAlmostEqual(said["greedy"], sum(line["greedy"] for line in lines) / 4, places=4)
        self.assertAlmostEqual(said["rank_1"], sum(line["rank"] == 1 for line in lines) / 4, places=4)
        again, _ = self.ask("score", pairs, "--threads", 3)
        self.assertEqual(again, lines)
        # the summary alone, without a file
        self.assertEqual(json.loads(self.run_lm("score", "--model", self.model, "--pairs",
                                                self.pairs(pairs)))["rank_1"], said["rank_1"])

    def test_wrong_use(self):
        good, bad = json.dumps(PATCH[0]), dict(PATCH[0], target="")
        far = dict(PATCH[0], prompt="Town " * 40)
        patch = ["tail-patch", "--model", self.model, "--out", self.path("never"), "--pairs"]
        score = ["score", "--model", self.model, "--pairs"]
        train = ["train", "--data", self.corpus, "--out", self.path("never")]
        for args, code, word in [
            ([*patch, self.pairs([good + "\n", bad], "1")], 1, 'line 2: "target" is empty'),
            ([*patch, self.pairs([good + "\n", far], "2")], 1, "line 2: prompt and target have"),
            ([*patch, self.pairs([good[:-1] + ',"k":1}\n'], "3")], 1, 'line 1: unknown member "k"'),
            ([*patch, self.pairs([good.replace("Quend", "\\ud800")], "4")], 1, "line 1: "),
            ([*patch, self.path("none")], 1, "none"),
            ([*patch, self.pairs([good], "5"), "--optimizer", "adam"], 2, "must be auto or sgd"),
            ([*patch, self.pairs([good], "5"), "--rate", "nan"], 2, "--rate nan"),
            ([*score, self.pairs([good], "6")], 1, 'line 1: unknown member "passages"'),
            ([*score, self.pairs(["\n"], "7")], 2, "no lines"),
            ([*train, "--steps", 10, "--checkpoint-steps", "5,11"], 2, "after step 11"),
            ([*train, "--steps", 10, "--checkpoint-steps", "5,5"], 2, "must rise"),
            ([*train, "--steps", 10, "--checkpoint-steps", "5,x"], 2, "whole numbers"),
            ([*train, "--steps", 10, "--checkpoint-steps", ""], 2, "whole numbers"),
            ([*train, "--checkpoint-steps", ",".join(map(str, range(1, 66)))], 2, "more than 64"),
        ]:
            self.assertIn(word, self.run_lm(*args, code=code))
        self.assertFalse(os.path.exists(self.path("never")))


if __name__ == "__main__":
    unittest.main()
