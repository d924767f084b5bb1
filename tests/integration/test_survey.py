"""test_survey.py - what a query asks beside its lists: histograms, the places of named examples, and
queries that are an example (like). Against numpy, bit for bit: under filters, tombstones, tasks, both
kinds of score, element types, threads, and scores that tie."""
import json
import urllib.parse

import numpy as np

import harness as h

DIM = 40


def places(scores, at):
    """(rank as proponents are ordered, fraction of the scores that are lower) of the row `at`."""
    s = scores[at]
    rank = 1 + np.count_nonzero(scores > s) + np.count_nonzero(scores[:at] == s)
    return int(rank), np.count_nonzero(scores < s) / len(scores)


def histogram(scores, bins):
    """Counts over equally wide bins from the lowest score to the highest."""
    low, high = scores.min(), scores.max()
    if not high > low:
        return [len(scores)] + [0] * (bins - 1)
    at = np.minimum(((scores - low) / (high - low) * bins).astype(int), bins - 1)
    return np.bincount(at, minlength=bins).tolist()


class Survey(h.ServerCase):
    args = ("--chunk-bytes", "32K")
    N = 700

    def fill(self, client, corpus, dtype="f32", lengths=None):
        """Every seventh row is row 0 again: scores that tie."""
        r = np.random.default_rng(31)
        x = r.standard_normal((self.N, DIM)).astype("<f4")
        x[::7] = x[0]
        if lengths is not None:
            x *= np.asarray(lengths, "<f4")[:, None]
        self.create(client, corpus, DIM, dtype, blocks=[{"name": "a", "dim": 16}, {"name": "b", "dim": 24}])
        oracle = h.Oracle(DIM, dtype)
        for b in range(0, self.N, 175):
            part = slice(b, b + 175)
            ids = [f"e{i}" for i in range(self.N)[part]]
            self.ingest(client, corpus, f"b{b}", x[part], [{"id": i, "meta": {"n": int(i[1:])}} for i in ids])
            oracle.ingest(x[part], ids)
        for i in range(3, self.N, 29):
            self.assert_status(client.delete(f"/v1/corpora/{corpus}/examples/e{i}"), 204)
            oracle.delete(f"e{i}")
        return x, oracle

    def ask(self, client, corpus, q, **members):
        body = {"queries": np.atleast_2d(q).tolist(), **members}
        return self.assert_status(client.post(f"/v1/corpora/{corpus}/query", body), 200).json()["results"]

    def all_scores(self, corpus, q, **params):
        """float64 [q, n] by the route that streams them, and the ids."""
        reply = self.client.post(f"/v1/corpora/{corpus}/scores?" + urllib.parse.urlencode({"dtype": "f64", **params}),
                                 h.queries(q))
        t, _ = h.read_tensors(self.assert_status(reply, 200).body)
        return t["scores"][1], bytes(t["ids"][1]).decode().split("\n")[:-1]

    def check(self, result, scores, ids, asked, bins):
        """One result against the scores of all that took part."""
        self.assertEqual(result["histogram"]["from"], scores.min())
        self.assertEqual(result["histogram"]["to"], scores.max())
        self.assertEqual(result["histogram"]["counts"], histogram(scores, bins))
        self.assertEqual([e["id"] for e in result["ids"]], asked)
        for e in result["ids"]:
            if e["id"] not in ids:
                self.assertEqual(e, {"id": e["id"], "missing": True})
                continue
            at = ids.index(e["id"])
            rank, percentile = places(scores, at)
            self.assertEqual((e["score"], e["rank"], e["percentile"]), (scores[at], rank, percentile), e["id"])
        for end in ("proponents", "opponents"):
            for hit in result[end]:
                if "percentile" in hit:
                    self.assertEqual(hit["percentile"], np.count_nonzero(scores < hit["score"]) / len(scores))

    ASKED = ["e0", "e7", "e14", "e693", "e3", "nobody", "e1", "e0", "e350", "é/ü"]

    def test_places_and_histograms_with_ties(self):
        for dtype in ("f32", "f16", "bf16"):
            x, oracle = self.fill(self.client, "ties-" + dtype, dtype)
            q = np.vstack([x[0], np.random.default_rng(32).standard_normal((4, DIM))]).astype("<f4")
            for row, result in zip(q, self.ask(self.client, "ties-" + dtype, q, ids=self.ASKED, histogram=64, k=4,
                                               opponents=3, percentile=True)):
                self.check(result, oracle.scores(row), oracle.ids, self.ASKED, 64)
        # the ranks of the rows that tie are those of the list itself
        (result,) = self.ask(self.client, "ties-f32", q[0], k=150, ids=oracle.ids[:150])
        rank = {hit["id"]: hit["rank"] for hit in result["proponents"]}
        for e in result["ids"]:
            if e["id"] in rank:
                self.assertEqual(e["rank"], rank[e["id"]])

    def test_under_a_filter(self):
        x, oracle = self.fill(self.client, "filtered")
        q = np.random.default_rng(33).standard_normal((2, DIM)).astype("<f4")
        rows = [n for n, name in enumerate(oracle.ids) if 100 <= int(name[1:]) < 400]
        ids = [oracle.ids[n] for n in rows]
        got = self.ask(self.client, "filtered", q, filter="meta.n >= 100 and meta.n < 400", histogram=8, ids=self.ASKED)
        for row, result in zip(q, got):
            self.check(result, oracle.scores(row)[rows], ids, self.ASKED, 8)
        (none,) = self.ask(self.client, "filtered", q[0], filter='id = "nobody"', histogram=8, ids=["e0"])
        self.assertEqual((none["histogram"], none["ids"]), (None, [{"id": "e0", "missing": True}]))

    def test_with_tasks_dot_products_and_threads(self):
        lengths = np.exp(np.random.default_rng(34).standard_normal(self.N) * 3)
        answers = []
        for threads in ("1", "2"):
            server = self.serve(("--chunk-bytes", "32K", "--threads", threads))
            self.client = server.client()
            x, oracle = self.fill(self.client, "fitted", lengths=lengths)
            self.wait_job(self.client, self.client.post("/v1/corpora/fitted/fit"))
            r = np.random.default_rng(35)
            body = h.tensors([h.matrix("gradients", r.standard_normal((20, DIM)))])
            self.wait_job(self.client, self.client.put("/v1/corpora/fitted/tasks/t?lambda=0.9", body))
            q = r.standard_normal((2, DIM)).astype("<f4")
            for params in ({}, {"task": "t"}, {"score": "dot"}, {"score": "dot", "task": "t"}):
                for engine in ("scan", "tiered"):
                    scores, ids = self.all_scores("fitted", q, **params)
                    got = self.ask(self.client, "fitted", q, ids=self.ASKED, histogram=100, engine=engine,
                                   opponents=1, percentile=True, **params)
                    for s, result in zip(scores, got):
                        self.check(result, s, ids, self.ASKED, 100)
                    answers.append(got)
            server.stop()
        half = len(answers) // 2
        self.assertEqual(answers[:half], answers[half:])

    def test_histogram_needs_no_list(self):
        x, oracle = self.fill(self.client, "bare")
        q = np.random.default_rng(36).standard_normal((1, DIM)).astype("<f4")
        for k, opponents in ((0, 0), (1, 0), (0, 2)):
            (result,) = self.ask(self.client, "bare", q, k=k, opponents=opponents, histogram=512)
            self.assertEqual((len(result["proponents"]), len(result["opponents"])), (k, opponents))
            self.assertEqual(result["histogram"]["counts"], histogram(oracle.scores(q[0]), 512))
        # one and the same score everywhere
        self.create(self.client, "alike", 2)
        self.ingest(self.client, "alike", "b", [[1, 0]] * 5, list("abcde"))
        (result,) = self.ask(self.client, "alike", [1, 1], histogram=8, ids=["e", "a"])
        self.assertEqual(result["histogram"]["counts"], [5] + [0] * 7)
        self.assertEqual([(e["rank"], e["percentile"]) for e in result["ids"]], [(5, 0.0), (1, 0.0)])

    def test_members_and_refusals(self):
        self.create(self.client, "form", 2)
        self.ingest(self.client, "form", "b", np.eye(2), ["a", "b"])
        url = "/v1/corpora/form/query"
        for bins in ("7", "513", "-1", "x"):
            self.assert_problem(self.client.post(f"{url}?histogram={bins}", h.queries([1, 0])), 400,
                                "invalid_request", field="histogram")
        for ids, code, index in ((["a"] * 1001, "invalid_request", None), ([], "invalid_request", None),
                                 ("a", "invalid_request", None), (["a", 1], "invalid_request", 1),
                                 (["a", ""], "bad_id", 1), (["a\n"], "bad_id", 0), (["x" * 257], "bad_id", 0)):
            reply = self.client.post(url, {"queries": [[1, 0]], "ids": ids})
            more = {} if index is None else {"index": index}
            self.assert_problem(reply, 422 if code == "bad_id" else 400, code, field="ids", **more)
        self.assert_problem(self.client.post(url + "?ids=a", h.queries([1, 0])), 400, "invalid_request")
        # options beside tensors: the members that JSON has
        plain = self.assert_status(self.client.post(url, {"queries": [[1, 0]], "ids": ["b"], "k": 1}), 200).json()
        body = lambda o: h.tensors([h.matrix("queries", [[1, 0]]),
                                    ("options", "U8", [len(o)], o)])
        got = self.assert_status(self.client.post(url, body(b'{"ids":["b"],"k":1}')), 200).json()
        self.assertEqual(got["results"], plain["results"])
        for text, code, field in ((b'{"queries":[[1,0]]}', "invalid_request", "queries"),
                                  (b'{"like":"a"}', "invalid_request", "like"),
                                  (b'{"saved":"a"}', "invalid_request", "saved"),
                                  (b'{"zzz":1}', "invalid_request", "zzz"), (b'{', "bad_json", None)):
            more = {"field": field} if field else {}
            self.assert_problem(self.client.post(url, body(text)), 400, code, **more)
        wrong = h.tensors([h.matrix("queries", [[1, 0]]), h.matrix("options", [[1, 0]])])
        self.assert_problem(self.client.post(url, wrong), 422, "wrong_dtype", field="options")

    def test_the_most_places(self):
        self.create(self.client, "many", 1)
        self.ingest(self.client, "many", "b", [[1.0]], ["a"])
        body = {"queries": [[1]] * 100, "ids": ["a"] * 1000}
        got = self.assert_status(self.client.post("/v1/corpora/many/query", body), 200).json()
        self.assertEqual(got["results"][99]["ids"][999], {"id": "a", "score": 1.0, "rank": 1, "percentile": 0.0})


class Like(Survey):
    """A query that is an example: its own stored vector."""

    def like(self, corpus, name, **members):
        reply = self.client.post(f"/v1/corpora/{corpus}/query", {"like": name, **members})
        return self.assert_status(reply, 200).json()["results"]

    def stored(self, corpus, name):
        """(stored row as float32, norm) of an example."""
        reply = self.client.get(f"/v1/corpora/{corpus}/examples/{urllib.parse.quote(name)}/encoding")
        (word, row), notes = h.read_tensors(self.assert_status(reply, 200).body)[0]["encoding"], None
        _, notes = h.read_tensors(reply.body)
        return h.widen(row, word.lower()), float(notes["norm"])

    def test_nearest_examples(self):
        for dtype in ("f32", "f16", "bf16"):
            x, oracle = self.fill(self.client, "like-" + dtype, dtype)
            for name in ("e0", "e8", "e698"):
                row, _ = self.stored("like-" + dtype, name)
                unit, _ = h.normalise(row)
                scores = h.lane_dot(oracle.rows, unit[0])
                order = np.lexsort((oracle.sequences, -scores))[:10]
                (result,) = self.like("like-" + dtype, name)
                self.assertEqual([(hit["id"], hit["score"]) for hit in result["proponents"]],
                                 [(oracle.ids[i], scores[i]) for i in order])
            self.assertEqual(result["proponents"][0]["id"], "e698")  # no other row is like it
            self.assertAlmostEqual(result["proponents"][0]["score"], 1.0, delta=0.01)
        # by parameter, with no body, or with one of options
        url = "/v1/corpora/like-bf16/query?like=e698&k=10"
        for reply in (self.client.post(url), self.client.post(url, {"k": 10}), self.client.post(
                "/v1/corpora/like-bf16/query?like=e0", {"like": "e698"})):
            self.assertEqual(self.assert_status(reply, 200).json()["results"], [result])

    def test_after_a_fit_and_through_a_task(self):
        lengths = np.exp(np.random.default_rng(37).standard_normal(self.N))
        x, oracle = self.fill(self.client, "near", lengths=lengths)
        self.wait_job(self.client, self.client.post("/v1/corpora/near/fit"))
        r = np.random.default_rng(38)
        body = h.tensors([h.matrix("gradients", r.standard_normal((20, DIM)))])
        self.wait_job(self.client, self.client.put("/v1/corpora/near/tasks/t?lambda=0.9", body))
        for name in ("e1", "e21", "e500"):
            # the example's own gradient, as it was sent, asks the same: but for float32's rounding
            g = x[int(name[1:])]
            for params in ({}, {"task": "t"}, {"score": "dot"}, {"score": "dot", "task": "t"}):
                (mine,) = self.like("near", name, k=20, opponents=5, **params)
                (sent,) = self.ask(self.client, "near", g, k=20, opponents=5, **params)
                for end in ("proponents", "opponents"):
                    np.testing.assert_allclose([hit["score"] for hit in mine[end]],
                                               [hit["score"] for hit in sent[end]], rtol=2e-6, atol=2e-6)
                if "score" not in params:
                    self.assertAlmostEqual(mine["proponents"][0]["score"], 1.0, delta=1e-6)

    def test_refusals(self):
        self.create(self.client, "odd", 2)
        self.ingest(self.client, "odd", "b", np.eye(2), ["a", "é/ü"])
        url = "/v1/corpora/odd/query"
        got = self.assert_status(self.client.post(url + "?like=" + urllib.parse.quote("é/ü")), 200).json()
        self.assertEqual([hit["id"] for hit in got["results"][0]["proponents"]], ["é/ü", "a"])
        self.assert_problem(self.client.post(url + "?like=nobody"), 404, "unknown_example", field="like")
        self.assert_problem(self.client.post(url + "?like="), 422, "bad_id", field="like")
        self.assert_status(self.client.put("/v1/corpora/odd/queries/s", {"gradient": [1, 2]}), 201)
        for reply in (self.client.post(url + "?like=a&saved=s"), self.client.post(url + "?like=a", h.queries([1, 0])),
                      self.client.post(url, {"like": "a", "queries": [[1, 0]]}),
                      self.client.post(url, {"like": "a", "saved": "s"})):
            self.assert_problem(reply, 400, "invalid_request", field="like")
        self.assert_status(self.client.delete("/v1/corpora/odd/examples/a"), 204)
        self.assert_problem(self.client.post(url + "?like=a"), 404, "unknown_example", field="like")
        self.assert_problem(self.client.post(url), 411, "length_required")
        self.assert_problem(self.client.post("/v1/corpora/odd/scores?like=a", h.queries([1, 0])), 400, "invalid_request", field="like")


# what Like takes from Survey is its corpus, not its tests
for name in [n for n in dir(Survey) if n.startswith("test_") and n not in vars(Like)]:
    setattr(Like, name, None)


if __name__ == "__main__":
    h.main()
