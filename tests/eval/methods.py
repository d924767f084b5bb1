"""methods.py - what is compared: the paper's ablation as a grid, the sweep of lambda, and the methods that
know no gradient. Each method is one file lists/NAME.jsonl in the schema of the PAIR viewer, and for
those that a server answers lists/NAME.json, the figures of `ascribe eval`.
"""
import dataclasses
import json
import os
import random

import facts

LIST = 100  # length of every list, as MRR is cut there


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table. moment: "adam" (V) or "none"; hessian: "none", "train", "mixed"."""
    name: str
    label: str
    moment: str = ""
    hessian: str = ""
    unit: bool = True       # scores by unit vectors; False: by the gradients as they are
    share: float = None     # lambda given; None: by the rule
    own: bool = False       # the task is the queries' own gradients

    @property
    def gradients(self):
        return bool(self.moment)


HESSIANS = {"none": "", "train": "R_train", "mixed": "mixed R"}
RANDOM, GOLD, BM25 = (Method("random", "random passages"), Method("gold", "gold passages"),
                      Method("bm25", "BM25"))
TRACKSTAR = "adam-mixed-cos"
OPPONENTS = "opponents"  # of TrackStar: the other end of its list


def grid(moments):
    out = []
    for moment in moments:
        for hessian in HESSIANS:
            for unit in (False, True):
                name = f"{moment}-{hessian}-{'cos' if unit else 'dot'}"
                parts = ["cosine" if unit else "dot product"]
                parts += ["V"] if moment != "none" else []
                parts += [HESSIANS[hessian]] if hessian != "none" else []
                label = "TrackStar" if name == TRACKSTAR else " + ".join(parts)
                out.append(Method(name, label, moment, hessian, unit))
    return out


def in_grid(name):
    return name.endswith(("-dot", "-cos"))


def sweep(shares):
    return [Method(f"adam-mixed-{s:g}", f"lambda {s:g}", "adam", "mixed", True, s) for s in shares]


def own(shares):
    """The same with R_eval of the queries themselves."""
    return [Method("adam-own-" + ("rule" if s is None else f"{s:g}"), "own task, " +
                   ("by the rule" if s is None else f"lambda {s:g}"), "adam", "mixed", True, s, True)
            for s in shares]


def task_name(method):
    """A method's task on the server."""
    word = "rule" if method.share is None else f"{method.share:g}".replace(".", "-")
    return ("own-" if method.own else "facts-") + word


class Lists:
    """Where the lists of a run lie, and how they come to be."""

    def __init__(self, folder):
        self.folder, self.gold = folder, os.path.join(folder, "queries.jsonl")
        os.makedirs(os.path.join(folder, "lists"), exist_ok=True)

    def path(self, name, kind="jsonl"):
        return os.path.join(self.folder, "lists", f"{name}.{kind}")

    def read(self, name):
        """[one record a query], in the order of queries.jsonl."""
        return facts.read_lines(self.path(name))

    def said(self, name):
        """The figures of `ascribe eval`."""
        with open(self.path(name, "json"), encoding="utf-8") as f:
            return json.load(f)

    def ask(self, product, corpus, name, more):
        """One run of `ascribe eval`."""
        out = product.ascribe("eval", corpus, "--gold", self.gold, "-k", LIST, "--buckets", "bucket",
                              "--json", "--out", self.path(name), *more)
        with open(self.path(name, "json"), "w", encoding="utf-8") as f:
            f.write(out)

    def ask_gradients(self, product, corpus, name, queries, task=None, unit=True):
        more = ["--queries", queries, "--tensor", "queries"]
        more += ["--task", task] if task else []
        self.ask(product, corpus, name, more + ([] if unit else ["--score", "dot"]))

    def write(self, name, chosen, texts):
        """A list that no server made: chosen has the ids for each query."""
        rows = []
        for q, ids in zip(facts.read_lines(self.gold), chosen):
            gold = set(q["gold"])
            rows.append({"example_id": q["id"], "query_set": "wordnet", "inputs_plaintext": q["prompt"],
                         "targets_plaintext": q["target"], "proponents": [texts[i] for i in ids],
                         "proponent_ids": ids, "proponent_scores": [1.0 / (1 + r) for r in range(len(ids))],
                         "proponent_correct": [i in gold for i in ids],
                         "relation": q["relation"], "bucket": q["bucket"]})
        facts.write_lines(self.path(name), rows)

    def write_baselines(self, passages, seed):
        """random: drawn for each query; gold: the annotated passages first."""
        queries, texts = facts.read_lines(self.gold), {p["id"]: p["text"] for p in passages}
        ids, rng = [p["id"] for p in passages], random.Random(seed)
        self.write(RANDOM.name, [rng.sample(ids, LIST) for _ in queries], texts)
        self.write(GOLD.name, [q["gold"][:LIST] for q in queries], texts)
