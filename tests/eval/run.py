#!/usr/bin/python3
"""run.py - the evaluation: does what ascribe retrieves make the model say what it says?

    tests/eval/run.py [--quick] [--build DIR] [--folder DIR] [--redo STAGE,...] [--only-report]

Full: facts from WordNet, a model trained on 33,000 passages, every method of the paper's ablation, MRR,
Recall@10, tail-patch; writes build/eval/full/results.json, and from it the tables and pictures of
docs/evaluation.md (report.py). Quick: a small model and fewer passages; checks the orderings that are
far outside the noise, prints PASS or FAIL for each, and exits 1 when one failed.

A run that broke is run again: stages that ended are not done twice (stages.py).
"""
import argparse
import dataclasses
import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import analyse  # noqa: E402
import facts  # noqa: E402
import methods  # noqa: E402
import patch  # noqa: E402
import product  # noqa: E402
import report  # noqa: E402
import stages  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Size:
    """What a run does. Nothing in it was chosen by looking at an outcome."""
    name: str
    passages: int
    per_cell: int           # queries of each relation and frequency
    task: int               # other facts, for the task's Hessian
    train: tuple            # options of `ascribe-lm train`
    checkpoints: tuple      # steps at which the model is looked at before the end
    moments: tuple          # corpora: with V ("adam"), without ("none")
    dim: int
    sweep: tuple = ()       # lambda besides the rule's
    own: tuple = ()         # lambda with the queries' own task (None: the rule)
    seed: int = 1
    repeat: int = 1         # how often the model reads an instance passage while it reads another once


FULL = Size("full", 33000, 80, 600, ("--steps", "12000"), (600, 1800, 4000, 8000), ("adam", "none"), 9216,
            (0.5, 0.9, 0.99, 0.999), (None, 0.9), repeat=8)
QUICK = Size("quick", 9000, 30, 200, ("--steps", "1500", "--width", "64"), (), ("adam", "none"), 4096)


class Run:
    def __init__(self, size, folder, build, redo):
        self.size, self.folder = size, os.path.join(folder, size.name)
        os.makedirs(self.folder, exist_ok=True)
        self.product = product.Product(build, self.folder)
        self.stages = stages.Stages(self.folder, redo, self.product.processor)
        self.lists = methods.Lists(self.folder)
        self.grid = methods.grid(size.moments)
        self.extra = methods.sweep(size.sweep) + methods.own(size.own)

    def path(self, name):
        return os.path.join(self.folder, name)

    def model(self, step=None):
        """The final model, or the checkpoint of a step."""
        return self.path("model.ckpt" if step is None else f"model.step{step}.ckpt")

    # --- stages ---

    def make_facts(self):
        facts.make_facts_files(self.folder, self.size.per_cell, self.size.task, self.size.seed)
        self.lists.write_baselines(facts.read_lines(self.path("corpus.jsonl")), self.size.seed)

    def train(self):
        more = ["--checkpoint-steps", ",".join(map(str, self.size.checkpoints))] if self.size.checkpoints else []
        self.product.lm("train", "--data", self.path("train.jsonl"), "--out", self.model(), "--seed",
                        self.size.seed, *self.size.train, *more)

    def score(self):
        """What the model knows: the target's probability, its rank among all objects of the relation."""
        objects = json.load(open(self.path("objects.json"), encoding="utf-8"))
        facts.write_lines(self.path("score.pairs.jsonl"), (
            {"id": q["id"], "prompt": q["prompt"], "target": q["target"],
             "candidates": [" " + o for o in objects[q["relation"]]]}
            for q in facts.read_lines(self.path("queries.jsonl"))))
        for step in (*self.size.checkpoints, None):
            self.product.lm("score", "--model", self.model(step), "--pairs", self.path("score.pairs.jsonl"),
                            "--out", self.path(f"score-{step or 'final'}.jsonl"))

    def options(self, moment):
        return ["--dim", self.size.dim, "--second-moment", moment]

    def gradients(self, name, moment, which, step=None):
        """The gradients of queries.jsonl or task.jsonl."""
        out = self.path(f"{which}-{name}.safetensors")
        rows = ({"prompt": q["prompt"], "target": q["target"]}
                for q in facts.read_lines(self.path(which + ".jsonl")))
        facts.write_lines(self.path("prompts.jsonl"), rows)
        self.product.queries(self.model(step), self.path("prompts.jsonl"), out, self.options(moment))
        return out

    def encode(self, name, moment, step=None):
        """A corpus of every passage's gradient, and the gradients of queries and task."""
        self.product.encode(self.model(step), self.path("corpus.jsonl"), name, self.options(moment))
        for which in ("queries", "task"):
            self.gradients(name, moment, which, step)

    def ask_grid(self, moment, hessian, task=None):
        for m in self.grid:
            if (m.moment, m.hessian) == (moment, hessian):
                self.ask(moment, m, task)

    def ask(self, corpus, method, task=None):
        self.lists.ask_gradients(self.product, corpus, method.name,
                                 self.path(f"queries-{corpus}.safetensors"), task, method.unit)

    def plain(self, moment):
        """Before the fit: encode, and no Hessian."""
        self.encode(moment, moment)
        self.ask_grid(moment, "none")

    def fit(self, corpus):
        if not self.product.whitened(corpus):
            self.product.ascribe("fit", corpus, "--json")

    def train_hessian(self, moment):
        self.fit(moment)
        self.ask_grid(moment, "train")

    def put_task(self, corpus, name, share, which):
        more = [] if share is None else ["--lambda", f"{share:g}"]
        said = self.product.ascribe("task", "put", corpus, name, self.path(f"{which}-{corpus}.safetensors"),
                                    "--tensor", "queries", "--json", *more)
        with open(self.path(f"task-{corpus}-{name}.json"), "w", encoding="utf-8") as f:
            f.write(said)

    def mixed_hessian(self, moment):
        self.put_task(moment, "facts-rule", None, "task")
        self.ask_grid(moment, "mixed", "facts-rule")

    def other_shares(self):
        """The sweep of lambda, and the queries' own task."""
        for m in self.extra:
            self.put_task("adam", methods.task_name(m), m.share, "queries" if m.own else "task")
            self.ask("adam", m, methods.task_name(m))

    def words(self):
        self.lists.ask(self.product, self.size.moments[0], "bm25", ["--search"])

    def patch_final(self):
        queries, sides = facts.read_lines(self.path("queries.jsonl")), []
        for name in analyse.patched_methods(self):
            sides.append((self.lists.read(name), "proponents"))
        sides.append((self.lists.read(methods.TRACKSTAR), "opponents"))
        patch.run(self.product, self.model(), self.folder, "final",
                  patch.pairs(queries, sides, patch.TOPS[-1]), ())

    def at_step(self, step):
        """TrackStar at a checkpoint: lists by its gradients, and tail-patch from it."""
        name = f"step{step}"
        self.encode(name, "adam", step)
        self.fit(name)
        self.put_task(name, "facts-rule", None, "task")
        self.lists.ask_gradients(self.product, name, name, self.path(f"queries-{name}.safetensors"),
                                 "facts-rule")
        self.product.ascribe("corpus", "drop", name, "--yes")
        queries = facts.read_lines(self.path("queries.jsonl"))
        sides = [(self.lists.read(n), "proponents") for n in (name, "bm25", "gold", "random")]
        patch.run(self.product, self.model(step), self.folder, name,
                  patch.pairs(queries, sides, patch.TOPS[-1]), ())

    # --- the chain ---

    def all(self):
        """Every stage in order; each names what it depends on."""
        s, run = self.size, self.stages.run
        run("corpus", [s.passages, s.seed, s.repeat], [],
            lambda: facts.make_corpus(self.folder, s.passages, s.seed, s.repeat))
        run("facts", [s.per_cell, s.task, s.seed, facts.TEMPLATES], ["corpus"], self.make_facts)
        run("train", [s.train, s.checkpoints, s.seed], ["corpus"], self.train)
        run("score", [], ["facts", "train"], self.score)
        self.product.start()
        try:
            before = ["facts", "train"]
            for m in s.moments:
                run(f"plain-{m}", [s.dim], before, lambda: self.plain(m))
                run(f"train-hessian-{m}", [], [f"plain-{m}"], lambda: self.train_hessian(m))
                run(f"mixed-hessian-{m}", [], [f"train-hessian-{m}"], lambda: self.mixed_hessian(m))
            run("words", [], [f"plain-{s.moments[0]}"], self.words)
            if self.extra:
                run("other-lambdas", [s.sweep, s.own], ["train-hessian-adam"], self.other_shares)
            lists = [n for n in self.stages.known if n not in ("score",)]
            run("tail-patch", [], lists, self.patch_final)
            for step in s.checkpoints:
                run(f"step-{step}", [s.dim], before + ["words"], lambda: self.at_step(step))
        finally:
            self.product.stop()

    def results(self):
        out = analyse.results(self)
        with open(self.path("results.json"), "w", encoding="utf-8") as f:
            json.dump(out, f, ensure_ascii=False, indent=1)
        return out


def main():
    ask = argparse.ArgumentParser(description="Evaluates attribution against facts and tail-patch.")
    ask.add_argument("--quick", action="store_true", help="small, and checks orderings (5 minutes at most)")
    ask.add_argument("--build", default="build/release")
    ask.add_argument("--folder", default="build/eval", help="where everything lies (build/eval)")
    ask.add_argument("--seed", type=int, help="of passages, facts and model (1)")
    ask.add_argument("--redo", default="", help="stages to do again, by commas")
    ask.add_argument("--docs", default="docs", help="where evaluation.md is brought up to date (docs)")
    ask.add_argument("--only-report", action="store_true", help="tables and pictures from results.json")
    a = ask.parse_args()
    size = QUICK if a.quick else FULL
    run = Run(dataclasses.replace(size, seed=a.seed) if a.seed else size, a.folder, a.build, filter(None, a.redo.split(",")))
    if a.only_report:
        with open(run.path("results.json"), encoding="utf-8") as f:
            return report.write(json.load(f), a.docs)
    try:
        run.all()
    except product.Failed as e:
        sys.exit(f"run.py: {e}")
    out = run.results()
    print(report.summary(out))
    if a.quick:
        print(report.checks(out["orderings"]))
        return 0 if all(c["good"] for c in out["orderings"]) else 1
    return report.write(out, a.docs)


if __name__ == "__main__":
    sys.exit(main())
