"""interop.py - stores that bergson itself built, imported, and scores compared with bergson's own:
`make interop`. Needs build/interop/venv (run.sh makes it). What differs is bounded here and explained in
docs/import.md."""
import json
import os
import subprocess
import sys
import unittest

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
from test_cli import CliCase  # noqa: E402

PYTHON = os.path.join(ROOT, "build", "interop", "venv", "bin", "python")
SIDE = os.path.join(ROOT, "tests", "interop", "bergson_side.py")


def bergson(what, folder):
    done = subprocess.run([PYTHON, SIDE, what, folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}, check=False)
    if done.returncode:
        raise AssertionError(f"bergson_side.py {what}:\n{done.stdout[-4000:]}")


class TestBergson(CliCase):
    def ours(self, *more):
        out = self.path("ours.npy")
        self.cli("scores", "b", self.path("queries.npy"), "--f64", "--out", out, *more)
        with open(self.path("ours.ids.txt"), encoding="utf-8") as f:
            rows = [int(line) for line in f]
        return np.load(out), rows

    def compare(self, name, most, *more, to=None):
        ours, rows = self.ours(*more)
        theirs = np.load(self.path(f"{name}.npy")).astype(np.float64)[:, rows] if to is None else to[:, rows]
        scale = np.abs(theirs).max()
        worst = float(np.abs(ours - theirs).max() / scale)
        # texts come twice here, so there are ties: ours must be as good as their best
        same = np.mean([b[np.argmax(a)] > b.max() - 1e-6 * scale for a, b in zip(ours, theirs)])
        correlation = min(float(np.corrcoef(a, b)[0, 1]) for a, b in zip(ours, theirs))
        print(f"  {name:24} worst difference {worst:.1e} of the largest score, "
              f"least correlation {correlation:.8f}, same first {same:.0%}", flush=True)
        self.assertLess(worst, most)
        return ours

    def test_scores_agree(self):
        bergson("make", self.dir)
        bergson("scores", self.dir)
        got = self.json("import", "bergson", self.path("train"), "b", "--jobs", 1)
        self.assertEqual((got["examples"], got["zero_rows"]), (238, [[7, 7], [100, 100]]))
        with open(self.path("train.jsonl"), encoding="utf-8") as f:
            texts = [json.loads(line)["text"] for line in f]
        listed = [json.loads(line) for line in self.cli("--json", "example", "list", "b", "--all")[0].splitlines()]
        print(f"\n  texts in data.hf: {sum(e['text'] is not None for e in listed)} of {len(listed)}; meta "
              f"{sorted(listed[0]['meta'])}", flush=True)
        for e in listed:
            self.assertIn(e["text"], (None, texts[int(e["id"])]))
            self.assertIn("loss", e["meta"])
        with open(self.path("query/info.json"), encoding="utf-8") as f:
            info = json.load(f)
        dim = sum(info["grad_sizes"].values())
        queries = np.fromfile(self.path("query/gradients.bin"), "<f4").reshape(-1, dim)
        np.save(self.path("queries.npy"), queries)

        self.compare("cosine", 1e-5)
        self.compare("dot", 1e-5, "--score", "dot")
        self.cli("fit", "b", "--damping", "0.1")
        self.compare("preconditioned", 1e-5)
        # bergson's mean of g g^T counts the rows without a gradient, ascribe's does not
        self.compare("inner", 1e-5, "--score", "dot", to=np.load(self.path("inner.npy")).astype(np.float64) * 238 / 240)

        with open(self.path("lambda.json"), encoding="utf-8") as f:
            mix = json.load(f)
        self.cli("task", "put", "b", "rule", self.path("queries.npy"))
        rule = self.json("task", "show", "b", "rule")
        print(f"  lambda at place {mix['place']}: bergson {mix['lambda']:.6f}, ascribe {rule['lambda']:.6f} "
              f"at {rule['k']}", flush=True)
        self.cli("task", "put", "b", "t", self.path("queries.npy"), "--lambda", f"{mix['lambda']:.9f}")
        # bergson damps what it has mixed, ascribe R_train before: the same up to where damping decides
        self.compare("trackstar", 0.2, "--task", "t")
        self.compare("trackstar, our damping", 1e-4, "--task", "t",
                     to=self.trackstar(queries, mix["lambda"], list(info["grad_sizes"].values())))

        # and bergson reads what is exported, at the rows of its own dataset
        self.cli("export", "scores", "b", self.path("queries.npy"), "--format", "bergson", "--items", 240,
                 "--out", self.path("exported"))
        bergson("read", self.dir)
        back = np.load(self.path("read_back.npz"))
        ours, rows = self.ours()
        np.testing.assert_array_equal(back["scores"][rows].T, ours.astype("<f4"))
        self.assertEqual([i for i in range(240) if not back["written"][:, i].all()], [7, 100])

    def trackstar(self, queries, part, sizes):
        """The formula in numpy, with R_train damped before it is mixed."""
        rows = np.fromfile(self.path("train/gradients.bin"), "<f4").reshape(-1, queries.shape[1]).astype(np.float64)
        live = rows[rows.any(axis=1)]
        q = queries.astype(np.float64)
        a, b, at = [], [], 0
        for size in sizes:
            cut = slice(at, at + size)
            at += size
            r = live[:, cut].T @ live[:, cut] / len(live)
            r += 0.1 * np.trace(r) / size * np.eye(size)
            r = part * (q[:, cut].T @ q[:, cut] / len(q)) + (1 - part) * r
            values, vectors = np.linalg.eigh(r)
            half = vectors / np.sqrt(values) @ vectors.T
            a.append(rows[:, cut] @ half)
            b.append(q[:, cut] @ half)
        a, b = np.hstack(a), np.hstack(b)
        length = np.linalg.norm(a, axis=1)
        return b / np.linalg.norm(b, axis=1)[:, None] @ (a / np.where(length > 0, length, 1)[:, None]).T


if __name__ == "__main__":
    unittest.main()
