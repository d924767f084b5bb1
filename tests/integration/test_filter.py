"""test_filter.py - filters over HTTP against brute force in Python: query, scores, pages; beside
deletions, many chunks, several clients; and every way to get one wrong.

Each filter stands twice: as the server's text and as a Python predicate over the example.
"""
import threading
import urllib.parse

import numpy as np

import harness as h

NONE = object()


def at(meta, *path):
    for name in path:
        if not isinstance(meta, dict) or name not in meta:
            return NONE
        meta = meta[name]
    return meta


def number(v):
    return isinstance(v, (int, float)) and not isinstance(v, bool)


FILTERS = [
    ('meta.source = "wiki"', lambda e: at(e["meta"], "source") == "wiki"),
    ('meta.source != "wiki"', lambda e: at(e["meta"], "source") != "wiki"),
    ('not meta.source in ["wiki", "web"]', lambda e: at(e["meta"], "source") not in ("wiki", "web")),
    ('meta.year < 1990', lambda e: number(at(e["meta"], "year")) and e["meta"]["year"] < 1990),
    ('meta.year >= 1950 and meta.year < 1960', lambda e: number(at(e["meta"], "year"))
     and 1950 <= e["meta"]["year"] < 1960),
    ('id ^= "wiki-1"', lambda e: e["id"].startswith("wiki-1")),
    ('id in ["wiki-3", "web-7", "no such"]', lambda e: e["id"] in ("wiki-3", "web-7")),
    ('meta.source = "wiki" and not (id ^= "wiki-1" or meta.year < 1990)',
     lambda e: at(e["meta"], "source") == "wiki" and not (
         e["id"].startswith("wiki-1") or (number(at(e["meta"], "year")) and e["meta"]["year"] < 1990))),
    ("has meta", lambda e: e["meta"] is not None),
    ("not has meta", lambda e: e["meta"] is None),
    ("has meta.deep.flag", lambda e: at(e["meta"], "deep", "flag") is not NONE),
    ("meta.deep.flag = true", lambda e: at(e["meta"], "deep", "flag") is True),
    ("meta.deep.flag = null", lambda e: at(e["meta"], "deep", "flag") is None),
    ('meta.tags = "b"', lambda e: "b" in (e["meta"] or {}).get("tags", [])),
    ('meta.tags != "b"', lambda e: "b" not in (e["meta"] or {}).get("tags", [])),
    ('meta."a name" > "m"', lambda e: isinstance(at(e["meta"], "a name"), str) and e["meta"]["a name"] > "m"),
    ("sequence >= 100 and sequence < 200", lambda e: 100 <= e["sequence"] < 200),
    ("norm > 4.0", lambda e: e["norm"] > 4.0),
    ('id = "no such"', lambda e: False),
    ('id != "no such"', lambda e: True),
]


class Filters(h.ServerCase):
    args = ("--chunk-bytes", "64K")
    DIM, N = 16, 1200

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        r = np.random.default_rng(31)
        cls.x = r.standard_normal((cls.N, cls.DIM)).astype("<f4")
        cls.examples = []
        for i in range(cls.N):
            source = ("wiki", "web", "books")[int(r.integers(3))]
            meta = {"source": source, "year": int(r.integers(1900, 2020)), "tags": list("abc"[:int(r.integers(4))]),
                    "a name": "xyz"[int(r.integers(3))] if i % 2 else "klm"[int(r.integers(3))]}
            if i % 5 == 0:
                meta["deep"] = {"flag": (True, False, None)[int(r.integers(3))]}
            if i % 11 == 0:
                meta["year"] = "unknown"
            if i % 13 == 0:
                del meta["source"]
            e = {"id": f"{source}-{i}", "text": f"text {i}", "meta": meta}
            if i % 17 == 0:
                del e["meta"]
            cls.examples.append(e)
        client = cls.server.client()
        assert client.put("/v1/corpora/c", {"dim": cls.DIM}).status == 201
        cls.oracle = h.Oracle(cls.DIM)
        for b in range(4):
            part = slice(b * 300, b * 300 + 300)
            reply = client.put(f"/v1/corpora/c/batches/b{b}", h.batch(cls.x[part], cls.examples[part]))
            assert reply.status == 201, reply
            cls.oracle.ingest(cls.x[part], [e["id"] for e in cls.examples[part]])
        for e in cls.examples[7::29]:
            assert client.delete("/v1/corpora/c/examples/" + h.quote(e["id"])).status == 204
            cls.oracle.delete(e["id"])
        client.close()
        by_id = {e["id"]: e for e in cls.examples}
        cls.live = [{"meta": None, **by_id[i], "sequence": int(s), "norm": float(n)}
                    for i, s, n in zip(cls.oracle.ids, cls.oracle.sequences, cls.oracle.norms)]

    def part(self, predicate):
        """The oracle of the rows that match."""
        keep = np.array([bool(predicate(e)) for e in self.live])
        o = h.Oracle(self.DIM)
        o.rows, o.norms, o.sequences = (a[keep] for a in (self.oracle.rows, self.oracle.norms, self.oracle.sequences))
        o.ids = [i for i, k in zip(self.oracle.ids, keep) if k]
        return o

    def check_query(self, client, text, predicate, q, k, opponents, as_json):
        o = self.part(predicate)
        if as_json:
            body = {"queries": [[float(v) for v in row] for row in q], "k": k, "opponents": opponents, "filter": text}
            reply = client.post("/v1/corpora/c/query", body)
        else:
            reply = client.post(f"/v1/corpora/c/query?k={k}&opponents={opponents}&filter={urllib.parse.quote(text)}",
                                h.queries(q))
        got = self.assert_status(reply, 200).json()
        self.assertEqual(got["examples"], len(o.ids), text)
        for row, result in zip(q, got["results"]):
            pro, opp = o.top(row, k, opponents)
            for end, right in (("proponents", pro), ("opponents", opp)):
                self.assertEqual([(p["id"], p["score"], p["sequence"]) for p in result[end]], right, text)

    def test_query_against_brute_force(self):
        q = np.random.default_rng(5).standard_normal((3, self.DIM)).astype("<f4")
        sizes = []
        for n, (text, predicate) in enumerate(FILTERS):
            self.check_query(self.client, text, predicate, q, 10, 5, n % 2 == 0)
            self.check_query(self.client, text, predicate, q, self.N, self.N, n % 2 == 1)  # from what is kept
            sizes.append(len(self.part(predicate).ids))
        self.assertEqual(min(sizes), 0)
        self.assertEqual(max(sizes), len(self.live))

    def test_many_queries_through_faiss(self):
        q = np.random.default_rng(6).standard_normal((40, self.DIM)).astype("<f4")
        for text, predicate in FILTERS[:6] + FILTERS[-1:]:
            self.check_query(self.client, text, predicate, q, 10, 10, False)

    def test_scores_against_brute_force(self):
        q = np.random.default_rng(7).standard_normal((2, self.DIM)).astype("<f4")
        for text, predicate in FILTERS:
            o = self.part(predicate)
            reply = self.client.post(f"/v1/corpora/c/scores?dtype=f64&filter={urllib.parse.quote(text)}", h.queries(q))
            found, _ = h.read_tensors(self.assert_status(reply, 200).body)
            right = np.array([o.scores(row) for row in q]).reshape(len(q), -1)
            self.assertEqual(found["scores"][1].tobytes(), right.astype("<f8").tobytes(), text)
            self.assertEqual(found["ids"][1].tobytes().decode(), "".join(i + "\n" for i in o.ids), text)

    def test_pages_against_brute_force(self):
        for text, predicate in FILTERS:
            right, got, after = [e["id"] for e in self.live if predicate(e)], [], None
            while True:
                path = f"/v1/corpora/c/examples?limit=97&filter={urllib.parse.quote(text)}"
                page = self.assert_status(self.client.get(path + (f"&after={after}" if after else "")), 200).json()
                got += [e["id"] for e in page["examples"]]
                after = page["next"]
                if after is None:
                    break
            self.assertEqual(got, right, text)

    def test_self_influence_is_the_squared_norm(self):
        page = self.client.get("/v1/corpora/c/examples?limit=50").json()["examples"]
        for e in page:
            self.assertEqual(e["self_influence"], e["norm"] * e["norm"])

    def test_deletions_and_batches_after_a_filter_was_used(self):
        client = self.client
        self.create(client, "moving", 4)
        ask = lambda: [p["id"] for p in client.post(  # noqa: E731
            "/v1/corpora/moving/query?k=100&filter=" + urllib.parse.quote('meta.n < 3'),
            h.queries(np.ones(4))).json()["results"][0]["proponents"]]
        x = np.abs(np.random.default_rng(8).standard_normal((20, 4)))
        self.ingest(client, "moving", "a", x[:10], [{"id": f"a{i}", "meta": {"n": i}} for i in range(10)])
        self.assertEqual(sorted(ask()), ["a0", "a1", "a2"])
        self.assert_status(client.delete("/v1/corpora/moving/examples/a1"), 204)
        self.assertEqual(sorted(ask()), ["a0", "a2"])
        self.ingest(client, "moving", "b", x[10:], [{"id": f"b{i}", "meta": {"n": i}} for i in range(10)])
        self.assertEqual(sorted(ask()), ["a0", "a2", "b0", "b1", "b2"])
        self.wait_job(client, client.post("/v1/admin/compact?corpus=moving"))
        self.assertEqual(sorted(ask()), ["a0", "a2", "b0", "b1", "b2"])

    def test_empty_corpus(self):
        self.create(self.client, "empty", 4)
        got = self.client.post("/v1/corpora/empty/query?filter=has%20meta", h.queries(np.ones(4))).json()
        self.assertEqual(got["results"], [{"proponents": [], "opponents": []}])

    def test_several_clients_at_once(self):
        q, faults = np.random.default_rng(9).standard_normal((2, self.DIM)).astype("<f4"), []

        def work(seed):
            client, r = self.server.client(), np.random.default_rng(seed)
            try:
                for _ in range(12):
                    text, predicate = FILTERS[int(r.integers(len(FILTERS)))]
                    self.check_query(client, text, predicate, q, 20, 20, True)
            except BaseException as fault:  # noqa: BLE001 - told below
                faults.append(fault)
        threads = [threading.Thread(target=work, args=(s,)) for s in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertFalse(faults, faults[:1])

    def test_mistakes_are_refused_by_place(self):
        q = h.queries(np.ones(self.DIM))
        for text, index in (("", 0), ("id", 2), ("id == 'x'", 4), ("meta.a <", 8), ("id = 7", 5), ('id = "x" id', 9),
                            ("(has meta", 9), ("é = 1", 0), ('id = "x"; DROP TABLE', 8)):
            for call in (lambda p: self.client.post("/v1/corpora/c/query?" + p, q),
                         lambda p: self.client.post("/v1/corpora/c/scores?" + p, q),
                         lambda p: self.client.get("/v1/corpora/c/examples?" + p)):
                reply = call("filter=" + urllib.parse.quote(text))
                self.assert_problem(reply, 400, "bad_filter", field="filter", index=index)
        for value in (7, None, ["id"], {}):
            body = {"queries": [[1] * self.DIM], "filter": value}
            self.assert_problem(self.client.post("/v1/corpora/c/query", body), 400, "invalid_request", field="filter")
        deep = {"queries": [[1] * self.DIM], "filter": "(" * 33 + "has meta" + ")" * 33}
        self.assert_problem(self.client.post("/v1/corpora/c/query", deep), 413, "too_large", field="filter", limit=32)
        many = {"queries": [[1] * self.DIM], "filter": "id in [" + ",".join(['"x"'] * 65537) + "]"}
        self.assert_problem(self.client.post("/v1/corpora/c/query", many), 413, "too_large", field="filter", limit=65536)

    def test_a_large_id_set(self):
        ids = [e["id"] for e in self.live][::2] + [f"never-{i}" for i in range(20000)]
        body = {"queries": [[1] * self.DIM], "k": self.N, "filter": "id in [" + ",".join(f'"{i}"' for i in ids) + "]"}
        got = self.assert_status(self.client.post("/v1/corpora/c/query", body), 200).json()
        self.assertEqual({p["id"] for p in got["results"][0]["proponents"]}, set(ids[:len(self.live[::2])]))


if __name__ == "__main__":
    h.main()
