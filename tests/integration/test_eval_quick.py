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

import harness

EVAL = os.path.join(harness.ROOT, "tests", "eval")
sys.path.insert(0, EVAL)


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
                self.assertGreater(c["errors"], 3, c)
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

    def test_facts_do_not_depend_on_the_run(self):
        import facts
        passages = [{"id": str(i), "text": t} for i, t in enumerate(
            ("Rhone: a river in France.", "San Marino: in Italy; not in Francesca.", "St. Mary: of France-Comté."))]
        texts = facts.Texts(passages)
        self.assertEqual(texts.having("France"), [0, 2])
        self.assertEqual(texts.having("a river"), [0])
        self.assertEqual(texts.having("river a"), [])
        self.assertEqual(texts.having("St. Mary"), [2])
        rhone = {"text": "Rhone: a river that rises in the Alps.", "meta": {"instance_of": ["river"]}}
        one = facts.prompt_of(1, "Rhone", "part_of", "Alps", rhone)
        self.assertEqual(one, facts.prompt_of(1, "Rhone", "part_of", "Alps", rhone))
        self.assertTrue(one[1].startswith("Rhone: ") and one[1].endswith(" the"), one)


if __name__ == "__main__":
    unittest.main(verbosity=2)
