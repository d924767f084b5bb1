"""test_explain.py - what explains a hit: shares of blocks, percentiles, sums by a meta field. Against
numpy, bit for bit where the document says so; under filters, tasks, dtypes, threads and many queries.
"""
import json
import urllib.parse

import numpy as np

import harness as h

BLOCKS = [{"name": "emb", "dim": 7}, {"name": "h0.attn \"qkv\"", "dim": 33}, {"name": "h1.mlp", "dim": 24}]
DIM = sum(b["dim"] for b in BLOCKS)


class Explain(h.ServerCase):
    args = ("--chunk-bytes", "64K")
    N = 900

    def fill(self, client, corpus, dtype="f32"):
        r = np.random.default_rng(12)
        x = r.standard_normal((self.N, DIM)).astype("<f4")
        values = ["wiki", "web", 1987, 2.5, True, None, ["a", 1], {"z": 1, "a": 2}]
        self.examples = []
        for i in range(self.N):
            e = {"id": f"e{i}", "meta": {"n": i, "source": values[int(r.integers(len(values)))]}}
            if i % 10 == 0:
                del e["meta"]["source"]
            if i % 23 == 0:
                del e["meta"]
            self.examples.append(e)
        self.create(client, corpus, DIM, dtype, blocks=BLOCKS)
        oracle = h.Oracle(DIM, dtype)
        for b in range(3):
            part = slice(b * 300, b * 300 + 300)
            self.ingest(client, corpus, f"b{b}", x[part], self.examples[part])
            oracle.ingest(x[part], [e["id"] for e in self.examples[part]])
        for i in range(5, self.N, 31):
            self.assert_status(client.delete(f"/v1/corpora/{corpus}/examples/e{i}"), 204)
            oracle.delete(f"e{i}")
        return x, oracle

    def ask(self, client, corpus, q, **params):
        query = urllib.parse.urlencode({"k": 10, "opponents": 5, **params})
        return self.assert_status(client.post(f"/v1/corpora/{corpus}/query?{query}", h.queries(q)), 200).json()["results"]

    def hits(self, result):
        return result["proponents"] + result["opponents"]

    def test_blocks_are_lane_sums_and_add_up(self):
        for dtype in ("f32", "f16", "bf16"):
            x, oracle = self.fill(self.client, "blocks-" + dtype, dtype)
            q = np.random.default_rng(13).standard_normal((3, DIM)).astype("<f4")
            plain = self.ask(self.client, "blocks-" + dtype, q)
            for row, result, bare in zip(q, self.ask(self.client, "blocks-" + dtype, q, blocks=1), plain):
                unit, _ = h.normalise(row)
                for hit in self.hits(result):
                    shares, stored, at = hit.pop("blocks"), oracle.rows[oracle.ids.index(hit["id"])], 0
                    self.assertEqual([s["name"] for s in shares], [b["name"] for b in BLOCKS])
                    for s, b in zip(shares, BLOCKS):
                        part = slice(at, at + b["dim"])
                        self.assertEqual(s["share"], float(h.lane_dot(stored[None, part], unit[0, part])[0]))
                        at += b["dim"]
                    self.assertAlmostEqual(sum(s["share"] for s in shares), hit["score"], delta=1e-12)
                self.assertEqual(result, bare)

    def test_blocks_under_a_task_add_up(self):
        x, _ = self.fill(self.client, "task")
        self.wait_job(self.client, self.client.post("/v1/corpora/task/fit"))
        r = np.random.default_rng(14)
        body = h.tensors([h.matrix("gradients", r.standard_normal((20, DIM)))])
        self.wait_job(self.client, self.client.put("/v1/corpora/task/tasks/t?lambda=0.9", body))
        q = r.standard_normal((2, DIM)).astype("<f4")
        for params in ({}, {"task": "t"}):
            got = self.ask(self.client, "task", q, blocks=1, percentile=1, group="meta.source", **params)
            reply = self.client.post("/v1/corpora/task/scores?dtype=f64&" + urllib.parse.urlencode(params), h.queries(q))
            scores = h.read_tensors(self.assert_status(reply, 200).body)[0]["scores"][1]
            for row, result in zip(scores, got):
                for hit in self.hits(result):
                    self.assertAlmostEqual(sum(s["share"] for s in hit["blocks"]), hit["score"], delta=1e-12)
                    self.assertEqual(hit["percentile"], np.count_nonzero(row < hit["score"]) / len(row))
                self.assertAlmostEqual(sum(g["sum"] for g in result["groups"]), row.sum(), delta=1e-9)

    def test_percentiles(self):
        x, oracle = self.fill(self.client, "percent")
        q = np.vstack([x[17], np.random.default_rng(15).standard_normal((30, DIM))]).astype("<f4")
        for filter, keep in ((None, lambda i: True), ("meta.n < 200", lambda i: i < 200 and i % 23)):
            rows = [n for n, name in enumerate(oracle.ids) if keep(int(name[1:]))]
            params = {"filter": filter} if filter else {}
            for row, result in zip(q, self.ask(self.client, "percent", q, percentile=1, text=0, **params)):
                s = oracle.scores(row)[rows]
                for hit in self.hits(result):
                    self.assertEqual(hit["percentile"], np.count_nonzero(s < hit["score"]) / len(s))
        whole = self.ask(self.client, "percent", q[0], percentile=1, k=10000, opponents=10000)[0]
        self.assertEqual(whole["proponents"][-1]["percentile"], 0.0)
        self.assertEqual(len(whole["opponents"]), len(oracle.ids))

    def group_right(self, oracle, row, keep):
        """[(value, count, sum)], highest sum first; sums in ingest order, one by one."""
        sums = {}
        for name, s in zip(oracle.ids, oracle.scores(row)):
            i = int(name[1:])
            if keep(i):
                value = json.dumps((self.examples[i].get("meta") or {}).get("source"), sort_keys=True)
                count, total = sums.get(value, (0, 0.0))
                sums[value] = (count + 1, total + float(s))
        return sorted(((json.loads(v), c, t) for v, (c, t) in sums.items()), key=lambda g: -g[2])

    def test_groups_are_sums_in_ingest_order(self):
        for threads in ("1", "2"):
            server = self.serve(("--chunk-bytes", "64K", "--threads", threads))
            client = server.client()
            x, oracle = self.fill(client, "groups")
            q = np.random.default_rng(16).standard_normal((3, DIM)).astype("<f4")
            for filter, keep in ((None, lambda i: True), ("meta.n >= 500", lambda i: i >= 500 and i % 23),
                                 ('id = "none"', lambda i: False)):
                params = {"filter": filter} if filter else {}
                for k in (0, 3):
                    got = self.ask(client, "groups", q, group="meta.source", k=k, **params)
                    for row, result in zip(q, got):
                        groups = [(g["value"], g["count"], g["sum"]) for g in result["groups"]]
                        self.assertEqual(groups, self.group_right(oracle, row, keep))
                        for g in result["groups"]:
                            self.assertEqual(g["mean"], g["sum"] / g["count"])
                        self.assertIsNone(result["groups_other"])
            client.close()
            server.stop()

    def test_more_values_than_groups(self):
        self.create(self.client, "ids", 3)
        x = np.random.default_rng(17).standard_normal((1500, 3)).astype("<f4")
        self.ingest(self.client, "ids", "b", x, [{"id": f"e{i}", "meta": {"v": i, "long": "x" * 300}} for i in range(1500)])
        result = self.ask(self.client, "ids", x[0], group="meta.v")[0]
        self.assertEqual(len(result["groups"]), 1000)
        self.assertEqual({g["value"] for g in result["groups"]}, set(range(1000)))
        self.assertEqual(result["groups_other"]["count"], 500)
        result = self.ask(self.client, "ids", x[0], group="meta.long")[0]
        self.assertEqual((result["groups"], result["groups_other"]["count"]), ([], 1500))

    def test_json_members_and_refusals(self):
        self.create(self.client, "form", 2)
        self.ingest(self.client, "form", "b", np.eye(2), [{"id": "a", "meta": {"s": "x"}}, "b"])
        body = {"queries": [[1, 0]], "blocks": True, "percentile": True, "group": "meta.s"}
        got = self.assert_status(self.client.post("/v1/corpora/form/query", body), 200).json()["results"]
        self.assertEqual(got, self.ask(self.client, "form", [1, 0], opponents=0, blocks=1, percentile=1, group="meta.s"))
        self.assertEqual(got[0]["groups"], [{"value": "x", "count": 1, "sum": 1.0, "mean": 1.0},
                                            {"value": None, "count": 1, "sum": 0.0, "mean": 0.0}])
        for path, index in (("", 0), ("id", 0), ("meta", 4), ("meta.s ", 6), ("meta.s = 1", 6), ("meta.\"s", 7)):
            reply = self.client.post("/v1/corpora/form/query?group=" + urllib.parse.quote(path), h.queries([1, 0]))
            self.assert_problem(reply, 400, "bad_filter", field="group", index=index)
        for name in ("blocks", "percentile"):
            reply = self.client.post(f"/v1/corpora/form/query?{name}=yes", h.queries([1, 0]))
            self.assert_problem(reply, 400, "invalid_request", field=name)
        self.create(self.client, "none", 2)
        got = self.ask(self.client, "none", [1, 0], blocks=1, percentile=1, group="meta.s")
        self.assertEqual(got, [{"proponents": [], "opponents": [], "groups": [], "groups_other": None}])


if __name__ == "__main__":
    h.main()
