"""test_saved.py - saved queries: the document's examples as they stand, both ways to send one, running
by name, lists and tags, replacing, dropping, crashes, and what is refused.
"""
import json

import numpy as np

import harness as h
from test_protocol import json_blocks


def entry(vector, dtype="f32", flat=True, **members):
    """The safetensors body of a PUT."""
    g = np.atleast_2d(vector)
    data = json.dumps(members).encode()
    name, word, shape, raw = h.matrix("gradient", g, dtype)
    return h.tensors([(name, word, shape[1:] if flat else shape, raw), ("query", "U8", [len(data)], data)])


class Saved(h.ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        client, r = cls.server.client(), np.random.default_rng(4)
        cls.x = r.standard_normal((50, 12)).astype("<f4")
        assert client.put("/v1/corpora/c", {"dim": 12}).status == 201
        assert client.put("/v1/corpora/c/batches/b", h.batch(cls.x, [f"e{i}" for i in range(50)])).status == 201
        client.close()

    def put(self, name, body, status=201, corpus="c"):
        return self.assert_status(self.client.put(f"/v1/corpora/{corpus}/queries/{name}", body), status)

    def names(self, corpus="c", **params):
        query = "&".join(f"{k}={v}" for k, v in params.items())
        page = self.assert_status(self.client.get(f"/v1/corpora/{corpus}/queries?{query}"), 200).json()
        return [q["name"] for q in page["queries"]], page["next"]

    def test_examples_of_the_document(self):
        sent, answered = (json.loads(text) for text in json_blocks("Saved queries"))
        self.create(self.client, "two", 2)
        reply = self.put("carmen", sent, corpus="two")
        self.assertEqual(reply.headers["Location"], "/v1/corpora/two/queries/carmen")
        got = reply.json()
        self.assertRegex(got["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(got, {**answered, "created": got["created"]})
        self.assertEqual(list(got), list(answered))
        self.assertEqual(self.client.get("/v1/corpora/two/queries/carmen").json(), got)
        self.assertEqual(self.client.get("/v1/corpora/two/queries").json(), {"queries": [got], "next": None})

    def test_runs_by_name_as_the_gradient_itself(self):
        g = self.x[7] * 3 + self.x[9]
        ask = lambda path, body=None: self.assert_status(  # noqa: E731
            self.client.post("/v1/corpora/c/query" + path, body), 200).json()["results"]
        for n, body in enumerate((entry(g, prompt="p"), entry(g, flat=False), {"gradient": [float(v) for v in g]})):
            self.put(f"run{n}", body)
            right = ask("?k=20&opponents=7", h.queries(g))
            self.assertEqual(ask(f"?k=20&opponents=7&saved=run{n}"), right)
            self.assertEqual(ask("", {"saved": f"run{n}", "k": 20, "opponents": 7}), right)
            self.assertEqual(ask(f"?saved=run{n}&k=20", {"opponents": 7}), right)
            body = self.client.get(f"/v1/corpora/c/queries/run{n}/gradient").body
            found, _ = h.read_tensors(body)
            self.assertEqual(found["queries"][1].tobytes(), g.astype("<f4").tobytes())
            self.assertEqual(ask("?k=20&opponents=7", body), right)
        self.put("half", entry(g, dtype="f16"))
        self.assertEqual(ask("?saved=half"), ask("", h.queries(g, "f16")))
        right = ask("?filter=sequence%20%3C%2020", h.queries(g))
        self.assertEqual(ask("?saved=run0&filter=sequence%20%3C%2020"), right)

    def test_lists_pages_and_tags(self):
        self.create(self.client, "lists", 2)
        right = sorted(f"q{i}" for i in range(130))
        for i in range(130):
            self.put(f"q{i}", {"gradient": [1, i], "tags": ["all"] + (["even", "x\"y"] if i % 2 == 0 else [])},
                     corpus="lists")
        self.assertEqual(self.names("lists", limit=1000), (right, None))
        got, after = [], None
        while True:
            page, after = self.names("lists", limit=33, **({"after": after} if after else {}))
            got += page
            if after is None:
                break
        self.assertEqual(got, right)
        self.assertEqual(self.names("lists", tag="even", limit=1000)[0], [n for n in right if int(n[1:]) % 2 == 0])
        self.assertEqual(len(self.names("lists", tag="x%22y", limit=1000)[0]), 65)
        self.assertEqual(self.names("lists", tag="none"), ([], None))
        self.assertEqual(len(self.names("lists")[0]), 100)
        self.assertEqual(self.names("lists", limit=65, tag="even")[1], None)

    def test_replace_and_delete(self):
        self.put("again", {"gradient": [1] * 12, "output": "one"})
        self.put("again", {"gradient": [2] * 6 + [-1] * 6, "output": "two"}, 200)
        self.assertEqual(self.client.get("/v1/corpora/c/queries/again").json()["output"], "two")
        found, _ = h.read_tensors(self.client.get("/v1/corpora/c/queries/again/gradient").body)
        self.assertEqual(found["queries"][1].tolist(), [[2] * 6 + [-1] * 6])
        self.assert_status(self.client.delete("/v1/corpora/c/queries/again"), 204)
        for call in (lambda: self.client.delete("/v1/corpora/c/queries/again"),
                     lambda: self.client.get("/v1/corpora/c/queries/again"),
                     lambda: self.client.get("/v1/corpora/c/queries/again/gradient"),
                     lambda: self.client.post("/v1/corpora/c/query?saved=again")):
            self.assert_problem(call(), 404, "unknown_query")

    def test_they_go_with_their_corpus(self):
        for dim in (3, 4):
            self.create(self.client, "mortal", dim)
            self.assertEqual(self.names("mortal"), ([], None))
            self.put("q", {"gradient": [1] * dim}, corpus="mortal")
            self.assert_status(self.client.delete("/v1/corpora/mortal"), 204)
        self.assert_problem(self.client.get("/v1/corpora/mortal/queries"), 404, "unknown_corpus")

    def test_refusals(self):
        put = lambda body, name="r": self.client.put(f"/v1/corpora/c/queries/{name}", body)  # noqa: E731
        ones = [1.0] * 12
        self.assert_problem(put({}), 400, "invalid_request", field="gradient")
        self.assert_problem(put({"gradient": [1, 2]}), 422, "wrong_dimension", field="gradient", limit=12)
        self.assert_problem(put({"gradient": [0] * 12}), 422, "zero_gradient", field="gradient")
        self.assert_problem(put({"gradient": [1e39] + [0] * 11}), 422, "not_finite", field="gradient")
        self.assert_problem(put({"gradient": ["x"] * 12}), 400, "invalid_request", field="gradient")
        self.assert_problem(put({"gradient": ones, "promt": "x"}), 400, "invalid_request", field="promt")
        self.assert_problem(put({"gradient": ones, "prompt": 7}), 400, "invalid_request", field="prompt")
        for tags in ("a", [""], ["x" * 64], [7], ["t"] * 33, None):
            self.assert_problem(put({"gradient": ones, "tags": tags}), 400, "invalid_request", field="tags")
        self.assert_problem(put({"gradient": ones, "methods": "m" * (64 << 10)}), 413, "too_large", limit=64 << 10)
        self.assert_problem(put({"gradient": ones}, "No"), 400, "invalid_request", field="query")
        self.assert_problem(put(entry(np.ones((2, 12)), flat=False)), 413, "too_large")
        self.assert_problem(put(h.tensors([h.matrix("gradient", ones)])), 400, "bad_safetensors")
        self.assert_problem(put(entry(ones, gradient=[1])), 400, "invalid_request", field="gradient")
        self.assert_problem(put(h.tensors([h.matrix("gradient", ones), ("query", "U8", [3], b"{a}")])), 400, "bad_json")
        self.assertEqual(self.client.get("/v1/corpora/c/queries/r").status, 404)
        self.put("fine", {"gradient": ones})
        ask = lambda path, body=None: self.client.post("/v1/corpora/c/query" + path, body)  # noqa: E731
        self.assert_problem(ask("?saved=fine", h.queries(ones)), 400, "invalid_request", field="saved")
        self.assert_problem(ask("", {"saved": "fine", "queries": [ones]}), 400, "invalid_request", field="saved")
        self.assert_problem(ask("?saved=none"), 404, "unknown_query")
        self.assert_problem(ask("?saved=No!"), 400, "invalid_request", field="saved")
        self.assert_problem(ask(""), 411, "length_required")
        self.create(self.client, "vast", 300000)
        big = self.client.put("/v1/corpora/vast/queries/q", {"gradient": [1]})
        self.assert_problem(big, 413, "too_large", field="gradient", limit=262144)
        reader = self.client.post("/v1/admin/keys", {"scope": "read", "label": "r"}).json()["key"]
        self.assert_problem(self.server.client(reader).put("/v1/corpora/c/queries/r", {"gradient": ones}), 403, "forbidden")

    def test_survives_a_kill(self):
        server = self.serve()
        client = server.client()
        self.create(client, "k", 3)
        for i in range(20):
            self.assert_status(client.put(f"/v1/corpora/k/queries/q{i}", {"gradient": [1, 2, i], "output": f"{i}"}), 201)
        self.assert_status(client.put("/v1/corpora/k/queries/q3", {"gradient": [9, 9, 9], "output": "new"}), 200)
        server.process.kill()
        server.process.wait()
        server.start(create=False)
        client = server.client()
        page = client.get("/v1/corpora/k/queries").json()["queries"]
        self.assertEqual({q["name"]: q["output"] for q in page}, {f"q{i}": "new" if i == 3 else f"{i}" for i in range(20)})
        found, _ = h.read_tensors(client.get("/v1/corpora/k/queries/q3/gradient").body)
        self.assertEqual(found["queries"][1].tolist(), [[9, 9, 9]])
        client.close()


if __name__ == "__main__":
    h.main()
