"""test_search.py - search by words: BM25 against a textbook, filters, deletions, and an index that is
derived: behind, missing, damaged, of another corpus, it must never show.
"""
import math
import os
import re
import threading

import numpy as np

import harness as h

WORDS = ("amber birch cedar delta ember flint grove heath inlet jetty knoll ledge marsh north otter "
         "pearl quartz ridge stone thorn umber vale willow yarrow zephyr").split()


class Textbook:
    """BM25 as Robertson and Zaragoza have it, k1 1.2, b 0.75, idf at least 1e-6."""

    def __init__(self):
        self.texts = []  # (id, sequence, terms)

    def add(self, name, sequence, text):
        self.texts.append((name, sequence, re.findall(r"[a-z0-9]+", text.lower())))

    def search(self, text, k=10, keep=lambda name: True):
        n = len(self.texts)
        mean = sum(len(t) for _, _, t in self.texts) / n
        scores = {}
        for term in re.findall(r"[a-z0-9]+", text.lower()):
            having = sum(term in t for _, _, t in self.texts)
            idf = max(math.log((n - having + 0.5) / (having + 0.5)), 1e-6)
            for name, sequence, terms in self.texts:
                f = terms.count(term)
                if f and keep(name):
                    s = idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * len(terms) / mean))
                    scores[(name, sequence)] = scores.get((name, sequence), 0) + s
        order = sorted(scores.items(), key=lambda kv: (-kv[1], kv[0][1]))
        return [(name, s) for (name, _), s in order[:k]]


def passage(r):
    return " ".join(r.choice(WORDS[:int(r.integers(3, len(WORDS)))], int(r.integers(3, 40))))


class Search(h.ServerCase):
    args = ("--chunk-bytes", "64K")

    def fill(self, client, corpus, texts, batch="b", first=0):
        x = np.random.default_rng(first).standard_normal((len(texts), 4))
        examples = [{"id": f"t{first + i}", "meta": {"n": first + i}} | ({"text": t} if t is not None else {})
                    for i, t in enumerate(texts)]
        self.ingest(client, corpus, batch, x, examples)

    def search(self, corpus, text, k=10, client=None, **more):
        reply = (client or self.client).post(f"/v1/corpora/{corpus}/search", {"text": text, "k": k, **more})
        got = self.assert_status(reply, 200).json()
        self.assertEqual([r["rank"] for r in got["results"]], list(range(1, len(got["results"]) + 1)))
        self.assertEqual(got["missing"], 0)
        return got

    def ids(self, *args, **kw):
        return [r["id"] for r in self.search(*args, **kw)["results"]]

    def check(self, corpus, book, text, k=10, keep=None, client=None, **more):
        got = self.search(corpus, text, k, client, **more)["results"]
        right = book.search(text, k, **({"keep": keep} if keep else {}))
        self.assertEqual(len(got), len(right))
        np.testing.assert_allclose([r["score"] for r in got], [s for _, s in right], rtol=1e-12)
        for a, b in zip(got, got[1:]):  # best first, and equal scores by sequence
            self.assertTrue((-a["score"], a["sequence"]) < (-b["score"], b["sequence"]))
        near = {round(s, 9) for _, s in right}
        if len(near) == len(right):
            self.assertEqual([r["id"] for r in got], [name for name, _ in right])

    def test_against_the_textbook(self):
        r, book = np.random.default_rng(1), Textbook()
        self.create(self.client, "book", 4)
        texts = [passage(r) for _ in range(700)]
        for b in range(3):
            part = texts[b * 250:(b + 1) * 250]
            self.fill(self.client, "book", part, f"b{b}", b * 250)
            for i, t in enumerate(part):
                book.add(f"t{b * 250 + i}", b * 250 + i, t)
            for _ in range(8):
                self.check("book", book, passage(r)[:60], int(r.integers(1, 50)))
        self.check("book", book, "amber amber birch", 700)  # a word twice counts twice
        got = self.search("book", "zephyr", 1000)
        self.assertEqual(got["matches"], len(got["results"]))
        self.assertEqual((got["examples"], got["indexed_through"]), (700, 700))

    def test_filter_is_that_of_queries(self):
        r, book = np.random.default_rng(2), Textbook()
        self.create(self.client, "part", 4)
        texts = [passage(r) for _ in range(300)]
        self.fill(self.client, "part", texts)
        for i, t in enumerate(texts):
            book.add(f"t{i}", i, t)
        # the filter first: it must not become what is indexed
        self.check("part", book, "amber cedar", 300, lambda n: int(n[1:]) < 100, filter="meta.n < 100")
        self.check("part", book, "amber cedar", 300, lambda n: n in ("t5", "t250"), filter='id in ["t5", "t250"]')
        self.check("part", book, "amber cedar", 300)
        self.assertEqual(self.search("part", "amber", filter="meta.n < 0")["results"], [])
        p = self.client.post("/v1/corpora/part/search", {"text": "x", "filter": "meta.n <"})
        self.assert_problem(p, 400, "bad_filter", field="filter", index=8)

    def test_deleted_examples_never_show(self):
        self.create(self.client, "gone", 4)
        self.fill(self.client, "gone", ["a secret", "a secret too", "nothing"])
        self.assertEqual(self.ids("gone", "secret"), ["t0", "t1"])
        self.assert_status(self.client.delete("/v1/corpora/gone/examples/t0"), 204)
        self.assertEqual(self.ids("gone", "secret"), ["t1"])
        self.wait_job(self.client, self.client.post("/v1/admin/compact?corpus=gone"))
        self.assertEqual(self.ids("gone", "secret"), ["t1"])
        self.fill(self.client, "gone", ["secret again"], "c", 0)  # the same id, a new sequence
        self.assertEqual(sorted(self.ids("gone", "secret")), ["t0", "t1"])

    def test_many_deleted_leave_the_statistics(self):
        self.create(self.client, "many", 4)
        self.fill(self.client, "many", [f"common w{i}" for i in range(2600)])
        self.assertEqual(len(self.ids("many", "common", 5000)), 2600)
        for i in range(2000):
            self.assert_status(self.client.delete(f"/v1/corpora/many/examples/t{i}"), 204)
        # All texts are of one length, so the score of a word that one text has is idf alone, and says N.
        best = self.search("many", "w2100")["results"]
        self.assertEqual([r["id"] for r in best], ["t2100"])
        counted = 1.5 * math.exp(best[0]["score"]) + 0.5
        self.assertLessEqual(600 - 1e-6, counted)
        self.assertLessEqual(counted, 600 * 4 / 3 + 1024)

    def test_a_dropped_corpus_leaves_nothing(self):
        for n, word in enumerate(("first", "second")):
            self.create(self.client, "again", 4)
            self.fill(self.client, "again", [f"{word} life"] * (3 - n))
            self.assertEqual(len(self.ids("again", "life")), 3 - n)
            self.assertEqual(len(self.ids("again", "first")), 0 if n else 3)
            self.assert_status(self.client.delete("/v1/corpora/again"), 204)
        self.assert_problem(self.client.post("/v1/corpora/again/search", {"text": "x"}), 404, "unknown_corpus")

    def test_words_are_words_and_never_syntax(self):
        self.create(self.client, "words", 4)
        texts = ["The Quick brown-fox", "café Über naïve", "AND OR NOT NEAR", "snow_ball 3.14", None, "",
                 "a\0b nul", "日本語 text", "quote\"d", "col:umn * ^"]
        self.fill(self.client, "words", texts)
        for text, right in (("quick", ["t0"]), ("FOX", ["t0"]), ("fox-brown", ["t0"]), ("cafe", ["t1"]), ("uber", ["t1"]),
                            ("AND", ["t2"]), ("near", ["t2"]), ("NEAR(quick fox)", ["t0", "t2"]), ("text:quick", ["t0", "t7"]),
                            ("14", ["t3"]), ("snow", ["t3"]), ("日本語", ["t7"]), ("quick*", ["t0"]), ("qui*", []),
                            ("\"", []), ("\"\"\"", []), ("d\" OR \"quick", ["t0", "t2", "t8"]), ("umn", ["t9"]), ("", []),
                            (" \n\t ", []), ("';--", []), ("nul", ["t6"]), ("^a", ["t6"]), ("{quick}", ["t0"]), ("(", [])):
            self.assertEqual(sorted(self.ids("words", text)), right, text)

    def test_members(self):
        self.create(self.client, "form", 4)
        self.fill(self.client, "form", ["one word", "two words"])
        got = self.search("form", "word words")
        self.assertEqual(set(got), {"results", "matches", "examples", "generation", "indexed_through", "missing", "took_ms"})
        self.assertEqual(set(got["results"][0]), {"id", "score", "rank", "sequence", "text", "meta"})
        self.assertEqual(got["results"][0]["text"], "one word")
        bare = self.search("form", "word words", texts=False)["results"]
        self.assertEqual(bare, [{k: r[k] for k in ("id", "score", "rank", "sequence")} for r in got["results"]])
        self.assertEqual(self.search("form", "word", k=0)["results"], [])
        self.create(self.client, "none", 4)
        self.assertEqual(self.search("none", "word")["results"], [])

    def test_refusals(self):
        self.create(self.client, "refuse", 4)
        ask = lambda body: self.client.post("/v1/corpora/refuse/search", body)  # noqa: E731
        self.assert_problem(ask({}), 400, "invalid_request", field="text")
        self.assert_problem(ask({"text": 7}), 400, "invalid_request", field="text")
        self.assert_problem(ask({"text": "x", "k": 10001}), 400, "invalid_request", field="k")
        self.assert_problem(ask({"text": "x", "n": 1}), 400, "invalid_request", field="n")
        self.assert_problem(ask({"text": "w " * 1025}), 413, "too_large", field="text", limit=1024)
        self.assertEqual(self.ids("refuse", "w " * 1024), [])
        self.assertIn(ask({"text": "x" * (64 << 10) + "x"}).status, (400, 413))

    def test_searches_beside_ingest(self):
        self.create(self.client, "beside", 4)
        faults, stop = [], threading.Event()

        def look():
            client, most = self.server.client(), 0
            try:
                while not stop.is_set():
                    got = self.search("beside", "common", 5000, client)["results"]
                    self.assertGreaterEqual(len(got), most)
                    most = len(got)
            except BaseException as fault:  # noqa: BLE001 - told below
                faults.append(fault)
        threads = [threading.Thread(target=look) for _ in range(2)]
        for t in threads:
            t.start()
        for b in range(20):
            self.fill(self.client, "beside", [f"common w{i}" for i in range(60)], f"b{b}", b * 60)
            self.assertEqual(len(self.ids("beside", "common", 5000)), (b + 1) * 60)  # one's own writes, at once
        stop.set()
        for t in threads:
            t.join()
        self.assertFalse(faults, faults[:1])


class Derived(h.ServerCase):
    """The file may be anything: answers are the same, and it is made again."""

    def test_whatever_happens_to_the_file(self):
        server = self.serve()
        client, r = server.client(), np.random.default_rng(3)
        self.create(client, "c", 4)
        texts = [passage(r) for _ in range(2000)]
        x = r.standard_normal((len(texts), 4))
        self.ingest(client, "c", "b", x, [{"id": f"t{i}", "text": t} for i, t in enumerate(texts)])
        ask = lambda c: c.post("/v1/corpora/c/search", {"text": "amber quartz", "k": 50}).json()  # noqa: E731
        right = ask(client)["results"]
        self.assertEqual(len(right), 50)
        path = os.path.join(server.store, "text.sqlite")
        size = [0]

        def keep(f):
            pass

        def garbage(f):
            f.seek(100)
            f.write(os.urandom(4000))

        def middle(f):
            for at in range(8192, size[0] - 4096, 4096):
                f.seek(at)
                f.write(b"\xff" * 2000)

        def foreign(f):
            f.truncate(0)
            f.write(b"not a database at all\n" * 50)

        def short(f):
            f.truncate(size[0] // 2)

        def empty(f):
            f.truncate(0)

        for harm in (keep, garbage, middle, foreign, short, empty, None):
            client.close()
            server.stop()
            size[0] = os.path.getsize(path)
            self.assertGreater(size[0], 50000)
            if harm is None:
                os.unlink(path)
            else:
                with open(path, "r+b") as f:
                    harm(f)
            server.start(create=False)
            client = server.client()
            got = ask(client)
            self.assertEqual((got["missing"], got["results"]), (0, right), harm)
        # under the running server, while connections are open
        middle_of = open(path, "r+b")
        size[0] = os.path.getsize(path)
        with middle_of as f:
            middle(f)
        for _ in range(3):
            self.assertEqual(ask(client)["results"], right)
        server.process.kill()
        server.process.wait()
        server.start(create=False)
        client = server.client()
        self.assertEqual(ask(client)["results"], right)
        client.close()


if __name__ == "__main__":
    h.main()
