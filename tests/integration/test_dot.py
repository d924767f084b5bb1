"""test_dot.py - score=dot: gradients as long as they are, against numpy bit for bit: both ends, all
dtypes, filters, deletions, what explains a hit, every score; after a fit and under a task against
dense matrices in float64; and the command line.
"""
import json
import urllib.parse

import numpy as np

import harness as h
from test_cli import CliCase

BLOCKS = [{"name": "a", "dim": 20}, {"name": "b", "dim": 12}]
DIM = 32


def scaled(oracle, q, sent="f32"):
    """The scores of every live row: the product of the unit vectors, times that of the lengths, each
    rounded once."""
    unit, length = h.normalise(h.widen(h.narrow(q, sent), sent))
    return h.lane_dot(oracle.rows, unit[0]) * (oracle.norms * length[0])


def ends(oracle, s, k, opponents):
    order = [np.lexsort((oracle.sequences, -s))[:k], np.lexsort((oracle.sequences, s))[:opponents]]
    return [[(oracle.ids[i], float(s[i]), int(oracle.sequences[i])) for i in end] for end in order]


def served(result):
    return [[(p["id"], p["score"], p["sequence"]) for p in result[end]] for end in ("proponents", "opponents")]


def fill(test, client, corpus, n, dim=DIM, dtype="f32", seed=1, **more):
    """Rows of lengths over many orders of magnitude, of which a few are gone again."""
    r = np.random.default_rng(seed)
    x = (r.standard_normal((n, dim)) * 10.0 ** r.uniform(-4, 4, (n, 1))).astype("<f4")
    x[n // 2:n // 2 + 5] = x[:5]  # ties
    x[n // 2 + 5] = -x[7]
    x[n // 2 + 6] = 2 * x[8]      # the same direction, another length
    test.create(client, corpus, dim, dtype, **more)
    oracle = h.Oracle(dim, dtype)
    for b in range(3):
        part = range(b * n // 3, (b + 1) * n // 3)
        examples = [{"id": f"e{i}", "meta": {"n": i, "kind": "even" if i % 2 == 0 else "odd"}} for i in part]
        test.ingest(client, corpus, f"b{b}", x[part], examples)
        oracle.ingest(x[part], [e["id"] for e in examples])
    for i in range(3, n, 29):
        test.assert_status(client.delete(f"/v1/corpora/{corpus}/examples/e{i}"), 204)
        oracle.delete(f"e{i}")
    return x, oracle


class Dot(h.ServerCase):
    args = ("--chunk-bytes", "64K")

    def ask(self, corpus, q, sent="f32", **params):
        query = urllib.parse.urlencode({"score": "dot", "text": 0, **params})
        reply = self.client.post(f"/v1/corpora/{corpus}/query?{query}", h.queries(q, sent))
        return self.assert_status(reply, 200).json()

    def all_scores(self, corpus, q, **params):
        query = urllib.parse.urlencode({"score": "dot", "dtype": "f64", **params})
        reply = self.client.post(f"/v1/corpora/{corpus}/scores?{query}", h.queries(q))
        return h.read_tensors(self.assert_status(reply, 200).body)[0]["scores"][1]

    def test_every_bit_against_numpy(self):
        compared = 0
        for seed, (dim, dtype, n) in enumerate(((1, "f32", 60), (31, "f16", 200), (33, "f32", 700), (200, "bf16", 300),
                                                (1000, "f32", 400), (5000, "f16", 90))):
            corpus = f"c{dim}"
            x, oracle = fill(self, self.client, corpus, n, dim, dtype, seed)
            r = np.random.default_rng(seed + 100)
            q = np.vstack([r.standard_normal((24, dim)) * 10.0 ** r.uniform(-20, 20, (24, 1)), x[3:5]]).astype("<f4")
            right = np.array([scaled(oracle, row) for row in q])
            for k, opponents, engine in ((1, 1, "auto"), (10, 5, "scan"), (n, n, "auto"), (0, 3, "scan"), (10, 5, "tiered"),
                                         (n, 2, "tiered")):
                got = self.ask(corpus, q, k=k, opponents=opponents, engine=engine)
                self.assertIn(got["engine"], ("scan", "tiered") if engine == "auto" else (engine,))
                self.assertEqual((got["exact"], got["examples"]), ("certified", len(oracle.ids)))
                for s, result in zip(right, got["results"]):
                    self.assertEqual(served(result), ends(oracle, s, k, opponents))
                    compared += k + opponents
            self.assertEqual(self.all_scores(corpus, q).tobytes(), right.tobytes())
            sent = self.ask(corpus, x[9], "bf16", k=n)["results"][0]
            self.assertEqual(served(sent)[0], ends(oracle, scaled(oracle, x[9], "bf16"), n, 0)[0])
        print(f"figure: {compared} dot products over HTTP equal numpy's bits")

    def test_the_longer_of_two_alike_stands_first(self):
        self.create(self.client, "long", 2)
        self.ingest(self.client, "long", "b", [[1, 0], [3, 0], [0, 5], [2, 2]], ["short", "long", "other", "mixed"])
        cosine = self.ask("long", [2, 0], score="cosine")["results"][0]["proponents"]
        self.assertEqual([p["id"] for p in cosine], ["short", "long", "mixed", "other"])
        dot = self.ask("long", [2, 0])["results"][0]["proponents"]
        self.assertEqual([p["id"] for p in dot], ["long", "mixed", "short", "other"])
        self.assertEqual([p["score"] for p in dot][::2], [6.0, 2.0])

    def test_filters_shares_percentiles_groups(self):
        x, oracle = fill(self, self.client, "more", 600, blocks=BLOCKS)
        q = np.random.default_rng(5).standard_normal((3, DIM)).astype("<f4")
        for filter, keep in ((None, lambda i: True), ("meta.n < 100", lambda i: i < 100)):
            params = {"filter": filter} if filter else {}
            rows = np.array([keep(int(name[1:])) for name in oracle.ids])
            got = self.ask("more", q, k=9, opponents=4, blocks=1, percentile=1, group="meta.kind", **params)
            for row, result in zip(q, got["results"]):
                s = np.where(rows, scaled(oracle, row), np.nan)
                live, order = s[rows], ends(oracle, np.where(rows, s, -np.inf), 9, 0)
                self.assertEqual(served(result)[0], order[0])
                self.assertEqual(served(result)[1], ends(oracle, np.where(rows, s, np.inf), 0, 4)[1])
                for hit in result["proponents"] + result["opponents"]:
                    at = oracle.ids.index(hit["id"])
                    unit, length = h.normalise(row)
                    parts = [float(h.lane_dot(oracle.rows[at:at + 1, p], unit[0, p])[0] * (oracle.norms[at] * length[0]))
                             for p in (slice(0, 20), slice(20, 32))]
                    self.assertEqual([b["share"] for b in hit["blocks"]], parts)
                    self.assertAlmostEqual(sum(parts), hit["score"], delta=1e-12 * oracle.norms[at] * length[0])
                    self.assertEqual(hit["percentile"], np.count_nonzero(live < hit["score"]) / len(live))
                sums = {"even": 0.0, "odd": 0.0}
                for name, score in zip(np.array(oracle.ids)[rows], live):
                    sums["odd" if int(name[1:]) % 2 else "even"] += float(score)
                self.assertEqual({g["value"]: g["sum"] for g in result["groups"]}, sums)
            self.assertEqual(self.all_scores("more", q, **params).tobytes(),
                             np.array([scaled(oracle, row)[rows] for row in q]).tobytes())

    def test_json_members_saved_queries_and_refusals(self):
        x, oracle = fill(self, self.client, "form", 90)
        q = x[11].tolist()
        right = self.ask("form", x[11], k=7)["results"]
        body = {"queries": [q], "k": 7, "text": False, "score": "dot"}
        path = "/v1/corpora/form/query"
        self.assertEqual(self.assert_status(self.client.post(path, body), 200).json()["results"], right)
        self.assert_status(self.client.put("/v1/corpora/form/queries/one", {"gradient": q}), 201)
        got = self.client.post(path + "?saved=one&score=dot&k=7&text=0")
        self.assertEqual(self.assert_status(got, 200).json()["results"], right)
        plain = self.client.post(path + "?score=dot", {**body, "score": "cosine"}).json()["results"]  # the body wins
        self.assertEqual(served(plain[0])[0], oracle.top(x[11], 7)[0])
        for more in ("?score=dots", "?score=", "?score=Dot"):
            for route in ("query", "scores"):
                reply = self.client.post(f"/v1/corpora/form/{route}{more}", h.queries(x[0]))
                self.assert_problem(reply, 400, "invalid_request", field="score")
        reply = self.client.post(path, {**body, "engine": "flat"})
        problem = self.assert_problem(reply, 400, "invalid_request", field="engine")
        self.assertIn("score dot", problem["detail"])
        reply = self.client.post("/v1/corpora/form/scores", {"queries": [q], "score": 1})
        self.assert_problem(reply, 400, "invalid_request", field="score")
        reply = self.client.post("/v1/corpora/form/scores", {"queries": [q], "score": "dot", "dtype": "f64"})
        found = h.read_tensors(self.assert_status(reply, 200).body)[0]["scores"][1][0]
        self.assertEqual(found.tobytes(), scaled(oracle, x[11]).tobytes())

    def test_after_a_fit_and_under_a_task(self):
        """<g, R^-1 g'> of the gradients themselves, R dense, per block, in float64."""
        r = np.random.default_rng(8)
        n, damping, lam = 500, 0.1, 0.8
        x = (r.standard_normal((n, DIM)) @ r.standard_normal((DIM, DIM)) * r.uniform(0.1, 10, (n, 1))).astype("<f4")
        e = (r.standard_normal((40, DIM)) * r.uniform(0.1, 5, DIM)).astype("<f4")
        q = np.vstack([r.standard_normal((3, DIM)), x[:4]]).astype("<f4")
        self.create(self.client, "fit", DIM, blocks=BLOCKS)
        self.ingest(self.client, "fit", "b", x, [f"e{i}" for i in range(n)])
        self.wait_job(self.client, self.client.post(f"/v1/corpora/fit/fit?damping={damping}"))
        body = h.tensors([h.matrix("gradients", e)])
        self.wait_job(self.client, self.client.put(f"/v1/corpora/fit/tasks/t?lambda={lam}", body))
        x64, e64, q64 = (a.astype("f8") for a in (x, e, q))
        train, task, at = np.zeros((DIM, DIM)), np.zeros((DIM, DIM)), 0
        for b in BLOCKS:
            p = slice(at, at + b["dim"])
            mean = x64[:, p].T @ x64[:, p] / n
            train[p, p] = mean + damping * np.trace(mean) / b["dim"] * np.eye(b["dim"])
            task[p, p] = lam * e64[:, p].T @ e64[:, p] / len(e) + (1 - lam) * train[p, p]
            at += b["dim"]
        for name, hessian in (("", train), ("t", task)):
            inverse = np.linalg.inv(hessian)
            right = q64 @ inverse @ x64.T
            lengths = np.sqrt(np.einsum("ij,jk,ik->i", q64, inverse, q64))[:, None] * \
                np.sqrt(np.einsum("ij,jk,ik->i", x64, inverse, x64))[None]
            params = {"task": name} if name else {}
            got = self.all_scores("fit", q, **params)
            self.assertLess(np.abs((got - right) / lengths).max(), 1e-5)
            cosine = self.all_scores("fit", q, score="cosine", **params)
            self.assertLess(np.abs(cosine - right / lengths).max(), 1e-5)
            for row, result in zip(got, self.ask("fit", q, k=20, opponents=20, blocks=1, **params)["results"]):
                order = np.lexsort((np.arange(n), -row))
                self.assertEqual(served(result)[0], [(f"e{i}", row[i], i) for i in order[:20]])
                for hit in result["proponents"]:
                    self.assertAlmostEqual(sum(b["share"] for b in hit["blocks"]) / hit["score"], 1, delta=1e-9)


class Cli(CliCase):
    def test_query_scores_and_eval(self):
        x, oracle = fill(self, self.client, "cli", 120)
        q = np.random.default_rng(3).standard_normal((30, DIM)).astype("<f4")
        np.save(self.path("q.npy"), q)
        right = np.array([scaled(oracle, row) for row in q])
        tops = [ends(oracle, s, 12, 0)[0] for s in right]
        got = self.json("query", "cli", self.path("q.npy"), "--score", "dot", "-k", 12)["results"]
        self.assertEqual([served(r)[0] for r in got], tops)
        self.json("scores", "cli", self.path("q.npy"), "--score", "dot", "--f64", "--out", self.path("s.npy"))
        self.assertEqual(np.load(self.path("s.npy")).tobytes(), right.tobytes())
        with open(self.path("gold.jsonl"), "w", encoding="utf-8") as f:
            for i, top in enumerate(tops):
                f.write(json.dumps({"id": f"q{i}", "gold": [top[i % 12][0]]}) + "\n")
        got = self.json("eval", "cli", "--gold", self.path("gold.jsonl"), "--queries", self.path("q.npy"), "--score",
                        "dot", "-k", 12)
        self.assertEqual((got["score"], got["filter"]), ("dot", None))
        self.assertIn(got["engine"], ("scan", "tiered"))
        self.assertAlmostEqual(got["overall"]["mrr"]["mean"], np.mean([1 / (i % 12 + 1) for i in range(30)]), delta=1e-12)
        _, err = self.cli("query", "cli", self.path("q.npy"), "--score", "dot", "--engine", "flat", code=2)
        self.assertIn("score dot", err)


if __name__ == "__main__":
    h.main()
