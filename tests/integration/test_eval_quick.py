"""test_eval_quick.py - `make eval-quick`: a small model, real facts, real tail-patch steps. The orderings
that are far outside the noise must hold, `ascribe eval` and the evaluation's own figures must agree
(the run fails otherwise), a second run must have nothing left to do, and what was written must be what
it is said to be: retrieved lists in the viewer's schema, changes that one step really makes."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

import numpy

import harness

EVAL = os.path.join(harness.ROOT, "tests", "eval")
sys.path.insert(0, EVAL)
import categories  # noqa: E402
import facts  # noqa: E402
import metrics  # noqa: E402
import plots  # noqa: E402
import stages  # noqa: E402


@unittest.skipIf(harness.FLAVOUR, "trains a model for a minute on both cores; under a sanitizer that is half an "
                                  "hour, and every route it uses is tested there by other files")
class QuickEvaluation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="ascribe-eval-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.done = cls.run_quick()
        path = os.path.join(cls.folder, "quick", "results.json")
        if not os.path.exists(path):
            raise AssertionError(cls.done.stdout + cls.done.stderr)
        with open(path, encoding="utf-8") as f:
            cls.results = json.load(f)

    @classmethod
    def run_quick(cls):
        build = os.environ.get("ASCRIBE_BUILD", "build/release")
        return subprocess.run([sys.executable, os.path.join(EVAL, "run.py"), "--quick", "--build", build,
                               "--folder", cls.folder], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=550 * harness.SLOW, check=False)

    def lines(self, name):
        with open(os.path.join(self.folder, "quick", name), encoding="utf-8") as f:
            return [json.loads(line) for line in f]

    def test_orderings_hold(self):
        self.assertEqual(self.done.returncode, 0, self.done.stdout + self.done.stderr)
        self.assertGreaterEqual(len(self.results["orderings"]), 8)
        for c in self.results["orderings"]:
            with self.subTest(c["text"]):
                self.assertTrue(c["good"], c)
                print(f"figure: {c['text']}: {c['difference']['mean']:.3f}, {c['errors']:.1f} standard errors")

    def test_figures_are_of_the_lists(self):
        """A second reading of the files, by nothing but the definitions."""
        queries = self.lines("queries.jsonl")
        for name in ("bm25", "adam-none-cos", "adam-mixed-cos"):
            total = 0.0
            for q, r in zip(queries, self.lines(f"lists/{name}.jsonl")):
                self.assertEqual(r["example_id"], q["id"])
                self.assertLessEqual(len(r["proponent_ids"]), 100)
                ranks = [i for i, p in enumerate(r["proponent_ids"]) if p in q["gold"]]
                total += 1 / (1 + ranks[0]) if ranks else 0
            self.assertAlmostEqual(self.results["methods"][name]["mrr"]["mean"], total / len(queries), 9)

    def test_gold_says_the_fact(self):
        texts = {p["id"]: p["text"] for p in self.lines("corpus.jsonl")}
        for q in self.lines("queries.jsonl"):
            self.assertIn(q["object"], texts[q["annotated"][0]])
            self.assertTrue(texts[q["annotated"][0]].startswith(q["subject"] + ": "))
            self.assertEqual(q["target"], " " + q["object"])
            for g in q["gold"][len(q["annotated"]):]:
                self.assertIn(q["subject"], texts[g])
                self.assertIn(q["object"], texts[g])

    def test_task_and_queries_share_no_subject(self):
        asked = {q["subject"] for q in self.lines("queries.jsonl")}
        self.assertFalse(asked & {t["subject"] for t in self.lines("task.jsonl")})

    def test_nothing_is_done_twice(self):
        again = self.run_quick()
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(again.stderr.count("done before"), len(self.results["stages"]), again.stderr)
        self.assertNotIn("begins", again.stderr)
        self.assertEqual(again.stdout, self.done.stdout)


class Parts(unittest.TestCase):
    """What the evaluation is made of, without a model."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ascribe-eval-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_where_a_phrase_stands(self):
        passages = [{"id": str(i), "text": t} for i, t in enumerate(
            ("Rhone: a river in France.", "San Marino: in Italy; not in Francesca.", "St. Mary: of France-Comté."))]
        texts = facts.Texts(passages)
        self.assertEqual(texts.having("France"), [0, 2])
        self.assertEqual(texts.having("a river"), [0])
        self.assertEqual(texts.having("river a"), [])
        self.assertEqual(texts.having("St. Mary"), [2])
        self.assertTrue(facts.given_away("Lake Erie", "lake"))
        self.assertFalse(facts.given_away("Blakeley", "lake"))

    def test_prompts_are_the_gloss_before_the_object(self):
        town = {"text": "Selma: a town in central Alabama on the Alabama river.",
                "meta": {"lemma": "Selma", "instance_of": ["town"]}}
        seen = {facts.prompt_of(seed, "Selma", "part_of", "Alabama", town) for seed in range(40)}
        self.assertEqual(seen, {(0, "Selma: a town in central"), (1, "Selma: town in central"),
                                (2, "Selma: a town in central")})
        king = {"text": "Offa: Mercian king.", "meta": {"lemma": "Offa", "instance_of": ["king"]}}
        seen = {facts.prompt_of(seed, "Offa", "instance_of", "king", king) for seed in range(40)}
        self.assertEqual(seen, {(0, "Offa: Mercian"), (1, "Offa: Mercian"), (2, "Offa: a Mercian")})
        city = {"text": "Oslo: city.", "meta": {"lemma": "Oslo", "instance_of": ["city"]}}
        seen = {facts.prompt_of(seed, "Oslo", "instance_of", "city", city)[1] for seed in range(40)}
        self.assertEqual(seen, {"Oslo:", "Oslo: a"})

    def test_draw_keeps_cells_and_subjects_apart(self):
        many = [{"subject": f"s{i % 70}", "object": f"o{i}", "relation": facts.RELATIONS[i % 2], "bucket": i % 3}
                for i in range(300)]
        queries, task = facts.draw(many, 20, 90, 4)
        self.assertEqual(len(queries), 6 * 20)
        self.assertFalse({q["subject"] for q in queries} & {t["subject"] for t in task})
        self.assertEqual(len({q["id"] for q in queries + task}), len(queries) + len(task))
        again, _ = facts.draw([dict(f) for f in many], 20, 90, 4)
        self.assertEqual([q["object"] for q in again], [q["object"] for q in queries])

    def test_figures_and_intervals(self):
        self.assertEqual(metrics.of_list([False, True] + [False] * 20), (0.5, 1.0, 0.1))
        self.assertEqual(metrics.of_list([False] * 10 + [True]), (1 / 11, 0.0, 0.0))
        self.assertEqual(metrics.of_list([True]), (1.0, 1.0, 0.0))
        self.assertEqual(metrics.of_list([]), (0.0, 0.0, 0.0))
        rng = numpy.random.default_rng(3)
        x = rng.normal(0.4, 1, 400)
        span = metrics.Bootstrap(400).span(x)
        self.assertAlmostEqual(span["mean"], x.mean(), 12)
        self.assertAlmostEqual(span["error"], x.std() / 20, delta=0.004)
        self.assertAlmostEqual(span["high"] - span["low"], 3.92 * span["error"], delta=0.02)
        # pairs stay pairs: the difference of two figures that move together is known far better
        y = x + rng.normal(0.1, 0.05, 400)
        self.assertLess(metrics.Bootstrap(400).difference(y, x)["error"], 0.004)
        self.assertEqual(metrics.verdict(metrics.Bootstrap(400).difference(y, x)), "holds")
        some = numpy.where(numpy.arange(400) < 100, x, numpy.nan)
        self.assertEqual(metrics.Bootstrap(400).span(some)["n"], 100)
        self.assertAlmostEqual(metrics.Bootstrap(400).span(some)["mean"], x[:100].mean(), 12)

    def test_stages_are_done_once_and_again_when_asked_otherwise(self):
        did = []

        def chain(key, redo=()):
            s = stages.Stages(self.folder, redo)
            s.say = lambda _: None
            s.run("a", key, [], lambda: did.append("a"))
            s.run("b", 1, ["a"], lambda: did.append("b"))
            s.run("c", 1, [], lambda: did.append("c"))
        for key, redo, want in ((1, (), "abc"), (1, (), ""), (2, (), "ab"), (2, ("b",), "b"), (2, (), "")):
            did.clear()
            chain(key, redo)
            self.assertEqual("".join(did), want, (key, redo))

        def breaks():
            raise OSError("no room")
        s = stages.Stages(self.folder, ["a"])
        s.say = lambda _: None
        with self.assertRaises(OSError):
            s.run("a", 2, [], breaks)
        did.clear()
        chain(2)
        self.assertEqual("".join(did), "ab")

    def test_categories(self):
        def passage(name, text, **meta):
            return {"id": name, "text": text, "meta": meta}
        judge = categories.Judge([
            passage("gold", "Selma: town in Alabama.", part_of=["Alabama"]),
            passage("fellow", "Mobile: port in Alabama.", part_of=["Alabama"]),
            passage("object", "Creek: people once of Alabama."),
            passage("subject", "march: from Selma on."),
            passage("relation", "Boston: city in Massachusetts.", part_of=["Massachusetts"]),
            passage("other", "Alabaman: of that state.")])
        fact = {"subject": "Selma", "object": "Alabama", "relation": "part_of", "gold": ["gold"], "annotated": ["gold"]}
        judge.learn([fact, dict(fact, subject="Mobile", annotated=["fellow"])])
        for name in ("gold", "fellow", "object", "subject", "relation", "other"):
            self.assertEqual(judge.of(fact, name), {"gold": "states"}.get(name, name))

    def test_pictures_are_whole_and_themed(self):
        if not shutil.which("gnuplot"):
            self.skipTest("gnuplot is only there for `make eval`")
        path = os.path.join(self.folder, "x.svg")
        plots.draw(path, 300, 200, plots.block("d", [(1, 2.0, None), (2, 3.0, 4.0)]) + "plot $d using 1:2 with lines")
        svg = xml.dom.minidom.parse(path)
        self.assertEqual(svg.documentElement.tagName, "svg")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        self.assertIn("prefers-color-scheme: dark", text)
        self.assertNotIn("rgb(  1,   1,   1)", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
