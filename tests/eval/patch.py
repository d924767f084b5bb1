"""patch.py - tail-patch: what one training step on a passage does to the target. `ascribe-lm tail-patch`
takes the steps; here is who is asked about what, each pair of query and passage once however many
methods named it, and what that makes for the first k of each list.
"""
import os

import numpy as np

import facts

TOPS = (1, 3, 5, 10)


def pairs(queries, lists, deep):
    """The input of tail-patch: each query with every passage that one of the lists has among its first
    `deep`. lists: [[record a query]]; a record's side is "proponents" or "opponents"."""
    for i, q in enumerate(queries):
        wanted = {}
        for records, side in lists:
            r = records[i]
            assert r["example_id"] == q["id"]
            for name, text in list(zip(r[side[:-1] + "_ids"], r[side]))[:deep]:
                wanted[name] = text
        yield {"id": q["id"], "prompt": q["prompt"], "target": q["target"],
               "passages": [{"id": n, "text": t} for n, t in sorted(wanted.items())]}


def run(product, model, folder, name, rows, options):
    """Takes the steps; the outcome lies in patch/NAME.jsonl. Returns how many pairs there were."""
    os.makedirs(os.path.join(folder, "patch"), exist_ok=True)
    asked, told = (os.path.join(folder, "patch", name + end) for end in (".pairs.jsonl", ".jsonl"))
    rows = list(rows)
    facts.write_lines(asked, rows)
    product.lm("tail-patch", "--model", model, "--pairs", asked, "--out", told, *options)
    return sum(len(r["passages"]) for r in rows)


class Patched:
    """The outcome: changes by query and passage."""

    def __init__(self, folder, name):
        self.rows = facts.read_lines(os.path.join(folder, "patch", name + ".jsonl"))
        self.change = [{p["id"]: (p["d_probability"], p["d_log_probability"]) for p in r["passages"]}
                       for r in self.rows]
        self.probability = np.array([r["probability"] for r in self.rows])

    def of(self, records, side="proponents", top=10):
        """[queries, 2]: the mean change of probability and of log-probability over the first `top` of
        each list; over as many as there are when a list is shorter; NaN when it is empty."""
        out = np.full((len(records), 2), np.nan)
        for i, r in enumerate(records):
            ids = r[side[:-1] + "_ids"][:top]
            if ids:
                out[i] = np.mean([self.change[i][n] for n in ids], axis=0)
        return out
