"""test_python.py - the Python package against a real server: every route, retries, streams, tables.

The package is imported from client/python as it stands there. The last test of the class insists
that every route of docs/protocol.md was asked by some method of it.
"""
import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import unittest
import unittest.mock

import numpy as np

import harness as h
from test_protocol import documented_routes

PACKAGE = os.path.join(h.ROOT, "client/python")
sys.path.insert(0, PACKAGE)

import ascribe
from ascribe import batches, errors, moment, projection, safetensors, table, wire
from ascribe.progress import Progress
import test_projection as page


def url(server):
    address = server.address
    return f"unix:{address}" if isinstance(address, str) else "http://%s:%d" % address


def examples(count, start=0):
    return [{"id": f"doc-{i}", "text": f"text of example {i}", "meta": {"n": i, "half": i % 2}}
            for i in range(start, start + count)]


class Routes(h.ServerCase):
    """Every method, each answer held against the oracle or against what was put in."""
    asked = set()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        send = wire.Wire._attempt

        def noted(self, method, target, *more):
            cls.asked.add((method, target.split("?")[0]))
            return send(self, method, target, *more)
        patch = unittest.mock.patch.object(wire.Wire, "_attempt", noted)
        patch.start()
        cls.addClassCleanup(patch.stop)
        cls.ascribe = ascribe.Client(url(cls.server), store=cls.server.store)
        cls.addClassCleanup(cls.ascribe.close)
        r = np.random.default_rng(5)
        cls.x = r.standard_normal((40, 24)).astype("f4")
        cls.q = r.standard_normal((2, 24)).astype("f4")
        cls.seen = cls.ascribe.create_corpus("seen", blocks=[("a", 16), ("b", 8)], loss="sum")
        cls.told = cls.seen.ingest(cls.x, examples(40), rows_per_batch=16, jobs=1)
        cls.oracle = h.Oracle(24)
        cls.oracle.ingest(cls.x, [e["id"] for e in examples(40)])

    def test_server(self):
        c = self.ascribe
        self.assertTrue(c.healthy())
        self.assertTrue(c.ready())
        self.assertEqual(c.info()["protocol"], 1)
        self.assertIn("# TYPE ", c.metrics())
        self.assertIn("/v1/info", c.openapi()["paths"])
        self.assertEqual(c.request("GET", "/v1/info")["name"], "ascribe")
        self.assertFalse(ascribe.Client("unix:/nowhere/at/all", retries=0).healthy())
        self.assertFalse(ascribe.Client("unix:/nowhere/at/all", retries=0).ready())

    def test_corpora(self):
        info = self.seen.info()
        self.assertEqual((info.name, info.dim, info.examples, info.fingerprint),
                         ("seen", 24, 40, self.seen.fingerprint))
        self.assertEqual([b["name"] for b in info.manifest["blocks"]], ["a", "b"])
        self.assertIn("seen", [i.name for i in self.ascribe.corpora()])
        self.assertIn("seen", info._repr_html_())
        gone = self.ascribe.create_corpus("gone", 3)
        self.assertEqual(self.ascribe.create_corpus("gone", 3).fingerprint, gone.fingerprint)
        with self.assertRaises(ascribe.Conflict) as c:
            self.ascribe.create_corpus("gone", 4)
        self.assertEqual((c.exception.code, c.exception.status), ("corpus_conflict", 409))
        gone.drop()
        with self.assertRaises(ascribe.NotFound):
            gone.info()

    def test_ingest_is_resumed_and_counts(self):
        self.assertEqual((self.told.examples, self.told.batches, self.told.already), (40, 3, 0))
        again = self.seen.ingest(self.x, examples(40), rows_per_batch=16)
        self.assertEqual((again.examples, again.batches, again.already), (0, 0, 3))
        other = self.seen.ingest(self.x, examples(40), rows_per_batch=30)
        self.assertEqual((other.examples, other.duplicates, other.batches), (0, 40, 2))

    def test_one_batch_and_its_receipt(self):
        c = self.ascribe.create_corpus("batches", 24, dtype="f16")
        first = c.put_batch("b1", self.x[:5], examples(5), dtype="bf16")
        self.assertEqual((first.examples, first.sequence, first.created), (5, 5, True))
        self.assertFalse(c.put_batch("b1", self.x[:5], examples(5), dtype="bf16").created)
        self.assertEqual(c.batch("b1").examples, 5)
        self.assertRegex(c.batch("b1").content_hash, "^[0-9a-f]{32}$")
        with self.assertRaises(ascribe.Conflict):
            c.put_batch("b1", self.x[:4], examples(4))
        stored, norms = h.normalise(h.widen(h.narrow(self.x[:5], "bf16"), "bf16"), "f16")
        e = c.encoding("doc-3")
        np.testing.assert_array_equal(e.vector, h.widen(stored, "f16")[3])
        self.assertEqual((e.norm, e.sequence), (norms[3], 3))

    def test_an_error_says_where_it_is(self):
        c = self.ascribe.create_corpus("errors", 24)
        bad = self.x.copy()
        bad[21, 7] = np.nan
        with self.assertRaises(ascribe.BadInput) as caught:
            c.ingest(bad, examples(40), rows_per_batch=8, jobs=1)
        e = caught.exception
        self.assertEqual((e.code, e.status, e.field, e.index, e.row), ("not_finite", 422, "gradients", 5, 21))
        self.assertIn("row 21 of the ingest", str(e))
        self.assertTrue(e.request_id)
        self.assertEqual(c.info().examples, 16)  # the batches before it
        with self.assertRaises(ascribe.NotFound) as caught:
            c.example("nobody")
        self.assertEqual(caught.exception.code, "unknown_example")
        with self.assertRaises(ascribe.BadInput) as caught:
            c.query(self.q, filter="meta.x = ")
        self.assertEqual(caught.exception.code, "bad_filter")
        self.assertIsInstance(caught.exception.index, int)
        with self.assertRaises(ascribe.Conflict) as caught:
            self.ascribe.corpus("seen", "0" * 64).query(self.q)
        self.assertEqual(caught.exception.code, "fingerprint_mismatch")
        with self.assertRaises(ascribe.Unauthorized):
            with ascribe.Client(url(self.server), key="asc_no_such") as stranger:
                stranger.info()

    def test_examples(self):
        page_ = self.seen.examples(limit=30)
        self.assertEqual([e.id for e in page_.examples], [f"doc-{i}" for i in range(30)])
        rest = self.seen.examples(after=page_.next, limit=30)
        self.assertEqual((len(rest.examples), rest.next), (10, None))
        self.assertEqual([e.id for e in self.seen.iter_examples("meta.half = 1", page=7)],
                         [f"doc-{i}" for i in range(1, 40, 2)])
        e = self.seen.example("doc-4")
        self.assertEqual((e.text, e.meta, e.sequence), ("text of example 4", {"n": 4, "half": 0}, 4))
        self.assertEqual(e.norm, self.oracle.norms[4])
        stored, _ = h.normalise(self.x, "f32")
        np.testing.assert_array_equal(self.seen.encoding("doc-4").vector, stored[4])

    def test_takedown(self):
        c = self.ascribe.create_corpus("taken", 24)
        c.ingest(self.x[:3], ["a/b c?é", "..", "x"])
        self.assertEqual(c.example("a/b c?é").sequence, 0)
        c.delete_example("a/b c?é")
        self.assertEqual(sorted(c.query(self.q[0], k=9)[0].ids), ["..", "x"])
        with self.assertRaises(ascribe.NotFound):
            c.delete_example("a/b c?é")
        self.ascribe.compact("taken")
        self.assertEqual(c.info().deleted, 0)

    def test_query_equals_the_oracle_to_the_bit(self):
        answer = self.seen.query(self.q, k=7, opponents=3)
        self.assertEqual((len(answer), answer.exact, answer.delta, answer.examples),
                         (2, "certified", None, 40))
        for row, result in enumerate(answer):
            high, low = self.oracle.top(self.q[row], 7, 3)
            self.assertEqual([(x.id, x.score, x.sequence) for x in result.proponents], high)
            self.assertEqual([(x.id, x.score, x.sequence) for x in result.opponents], low)
            self.assertEqual([x.rank for x in result.proponents], list(range(1, 8)))
        for options in ({"engine": "scan"}, {"engine": "flat"}, {"engine": "tiered"},
                        {"engine": "tiered", "precision": "probabilistic", "delta": 1e-6}):
            other = self.seen.query(self.q[0], k=7, **options)
            self.assertEqual([(x.id, x.score) for x in other[0].proponents],
                             [(x.id, x.score) for x in answer[0].proponents])
            self.assertEqual(other.engine, options["engine"])

    def test_query_explains(self):
        answer = self.seen.query(self.q[0], k=5, blocks=True, percentile=True, group="meta.half",
                                 text=False)
        for hit in answer[0].proponents:
            self.assertIsNone(hit.text)
            self.assertEqual([name for name, _ in hit.shares], ["a", "b"])
            self.assertAlmostEqual(sum(s for _, s in hit.shares), hit.score, places=12)
        self.assertEqual(answer[0].proponents[0].percentile, 39 / 40)
        self.assertEqual({g.value: g.count for g in answer[0].groups}, {0: 20, 1: 20})
        dot = self.seen.query(self.q[0], k=1, score="dot")[0].proponents[0]
        want = self.x.astype("f8") @ self.q[0].astype("f8")
        self.assertAlmostEqual(dot.score, want.max(), places=5)

    def test_a_filter_too_long_for_the_target_goes_into_the_body(self):
        ids = [f"doc-{i}" for i in range(0, 40, 3)] + ["x" * 200] * 30
        text = "id in " + json.dumps(ids)
        self.assertGreater(len(text), 4096)
        hits = self.seen.query(self.q[0], k=40, filter=text, opponents=1)[0]
        self.assertEqual(sorted(hits.ids), sorted(set(ids[:14])))
        best = self.oracle.top(self.q[0], 40)[0]
        self.assertEqual([x.score for x in hits.proponents], [s for i, s, _ in best if i in ids])

    def test_places_histograms_and_nearest_examples(self):
        scores = self.oracle.scores(self.q[1])
        asked = ["doc-7", "nobody", "doc-0"]
        for filter in (None, "not id in " + json.dumps(["x" * 200] * 30)):  # a parameter, or too long for one
            result = self.seen.query(self.q, k=2, histogram=16, ids=asked, filter=filter)[1]
            self.assertEqual(result.histogram.counts.sum(), 40)
            self.assertEqual((result.histogram.edges[0], result.histogram.edges[-1]), (scores.min(), scores.max()))
            self.assertEqual([p.id for p in result.places], asked)
            for p in result.places:
                at = self.oracle.ids.index(p.id) if p.id in self.oracle.ids else None
                want = (None,) * 3 if at is None else (scores[at], 1 + np.count_nonzero(scores > scores[at]),
                                                       np.count_nonzero(scores < scores[at]) / 40)
                self.assertEqual((p.score, p.rank, p.percentile), want)
        self.assertIsNone(self.seen.query(self.q[0], histogram=8, filter='id = "x"')[0].histogram)
        self.assertEqual(self.seen.query(like="doc-3", k=1)[0].ids, ["doc-3"])
        with self.assertRaises(ascribe.NotFound):
            self.seen.query(like="nobody")
        for bad in ({"like": "doc-1", "queries": self.q}, {"queries": self.q, "ids": "doc-1"}):
            with self.assertRaises(ascribe.ArgumentError):
                self.seen.query(**bad)

    def test_norms_and_planes(self):
        norms = self.seen.norms(bins=8)
        self.assertEqual((norms.examples, norms.min, norms.max), (40, self.oracle.norms.min(), self.oracle.norms.max()))
        np.testing.assert_array_equal(norms.counts, np.histogram(self.oracle.norms, norms.edges)[0])
        self.assertEqual(self.seen.norms(filter='id = "x"').counts.tolist(), [])
        info = self.seen.info()
        self.assertEqual(info.planes["rows"], 40 * 24 * 4)
        self.assertEqual(set(info.ingest), {"rows_per_s", "bytes_per_s"})

    def test_scores_stream(self):
        s = self.seen.scores(self.q, f64=True)
        self.assertEqual((s.scores.shape, s.scores.dtype), ((2, 40), np.float64))
        for row in range(2):
            np.testing.assert_array_equal(s.scores[row], self.oracle.scores(self.q[row]))
        self.assertEqual(s.ids, self.oracle.ids)
        self.assertEqual(s.sequences.tolist(), list(range(40)))
        self.assertEqual(s.metadata["fingerprint"], self.seen.fingerprint)
        self.assertEqual(s.top(3), [(i, v) for i, v, _ in self.oracle.top(self.q[0], 3)[0]])
        self.assertEqual(self.seen.scores(self.q[0], filter="meta.n < 2").ids, ["doc-0", "doc-1"])
        with self.seen.stream_scores(self.q) as stream:
            with self.assertRaises(RuntimeError):
                stream.rest()
            got = [(row, first, len(part)) for row, first, part in stream]
        self.assertEqual(got, [(0, 0, 40), (1, 0, 40)])
        path = os.path.join(self.scratch(), "scores.safetensors")
        self.seen.save_scores(path, self.q, f64=True)
        tensors, metadata = safetensors.load(path)
        np.testing.assert_array_equal(tensors["scores"], s.scores)
        self.assertEqual(metadata["corpus"], "seen")

    def test_search(self):
        found = self.seen.search("EXAMPLE 7", k=3)
        self.assertEqual((found[0].id, found.matches, len(found)), ("doc-7", 40, 3))
        self.assertEqual(len(self.seen.search("example", filter="meta.n >= 38", texts=False)), 2)

    def test_fit_and_tasks(self):
        c = self.ascribe.create_corpus("fitted", 8)
        x = np.random.default_rng(8).standard_normal((64, 8)).astype("f4")
        c.ingest(x, [f"e{i}" for i in range(64)])
        with self.assertRaises(ascribe.Conflict) as caught:
            c.put_task("t", x[:4])
        self.assertEqual(caught.exception.code, "not_fitted")
        job = c.fit(damping=0.2)
        self.assertEqual((job.state, job.kind, job.result["rows"]), ("succeeded", "fit", 64))
        self.assertEqual(c.info().fit["damping"], 0.2)
        queued = c.put_task("facts", x[:6], lambda_=0.5, wait=False)
        self.assertEqual(self.ascribe.wait(queued.id, timeout=60).state, "succeeded")
        task = c.task("facts")
        self.assertEqual((task.lambda_, task.rows, task.state), (0.5, 6, "ready"))
        self.assertEqual([t.name for t in c.tasks()], ["facts"])
        # Dense TrackStar in float64: whiten on both sides by the mixed Hessian, then the cosine.
        g = x.astype("f8")
        train = g.T @ g / 64
        train += 0.2 * np.trace(train) / 8 * np.eye(8)
        r = 0.5 * g[:6].T @ g[:6] / 6 + 0.5 * train
        inverse = np.linalg.inv(r)
        norms = np.sqrt(np.einsum("ni,ij,nj->n", g, inverse, g))
        want = (g @ inverse @ g[3]) / norms / norms[3]
        got = c.scores(x[3], task="facts", f64=True).scores[0]
        np.testing.assert_allclose(got, want, atol=3e-6)
        self.assertEqual(c.query(x[3], k=1, task="facts")[0].ids, ["e3"])
        c.delete_task("facts")
        self.assertEqual(c.tasks(), [])

    def test_saved_queries(self):
        c = self.ascribe.create_corpus("saved", 24)
        c.ingest(self.x, examples(40))
        saved = c.save_query("carmen", self.q[0], prompt="Carmen was written by", target=" Bizet",
                             output=" Verdi", tags=["opera"], methods={"step": 3})
        self.assertEqual((saved.name, saved.dim, saved.tags), ("carmen", 24, ["opera"]))
        c.save_query("other", self.q[1])
        self.assertEqual([q.name for q in c.saved_queries()], ["carmen", "other"])
        self.assertEqual([q.name for q in c.saved_queries(tag="opera")], ["carmen"])
        self.assertEqual(c.saved_query("carmen"), saved)
        np.testing.assert_array_equal(c.saved_gradient("carmen"), self.q[:1])
        self.assertEqual(c.query(saved="carmen", k=4)[0].ids, c.query(self.q[0], k=4)[0].ids)
        c.delete_saved_query("carmen")
        with self.assertRaises(ascribe.NotFound):
            c.saved_query("carmen")
        with self.assertRaises(ascribe.ArgumentError):
            c.query()

    def test_jobs_and_keys(self):
        verify = self.ascribe.verify()
        self.assertEqual((verify.kind, verify.state), ("verify", "succeeded"))
        self.assertEqual(self.ascribe.job(verify.id).state, "succeeded")
        self.assertIn(verify.id, [j.id for j in self.ascribe.jobs()])
        first, second = self.ascribe.backup(), self.ascribe.backup(base="none")
        self.assertEqual((first.state, second.result["base"]), ("succeeded", None))
        third = self.ascribe.backup(base=first.result["name"])
        self.assertEqual(third.result["base"], first.result["name"])
        with self.assertRaises(ascribe.BadInput):
            self.ascribe.backup(base="../x")
        self.assertTrue(self.ascribe.cancel_job(self.ascribe.verify(wait=False).id).id)
        key = self.ascribe.create_key("read", "notebook")
        self.assertNotIn(key.secret, repr(key))
        self.assertIn(key.id, [k.id for k in self.ascribe.keys()])
        reader = ascribe.Client(url(self.server), key=key.secret)
        self.addCleanup(reader.close)
        self.assertEqual(reader.corpus("seen").query(self.q[0], k=1)[0].ids,
                         self.seen.query(self.q[0], k=1)[0].ids)
        with self.assertRaises(ascribe.Unauthorized) as caught:
            reader.corpus("seen").delete_example("doc-0")
        self.assertEqual(caught.exception.code, "forbidden")
        follows = self.ascribe.rotate_key(key.id, overlap_s=60)
        self.assertEqual((follows.scope, follows.label, follows.expires), ("read", "notebook", None))
        self.assertTrue({k.id: k.expires for k in self.ascribe.keys()}[key.id])
        self.ascribe.revoke_key(key.id)
        with self.assertRaises(ascribe.Unauthorized):
            reader.info()

    def test_a_server_without_an_encoder(self):
        self.assertEqual(self.ascribe.encoder().state, "none")
        for ask in (lambda: self.ascribe.continue_prompt("a"), lambda: self.ascribe.encode("a", "b"),
                    lambda: self.ascribe.corpus("text").explain("a", np.ones(2, "f4"))):
            with self.assertRaises(ascribe.NotFound) as caught:
                ask()
            self.assertEqual(caught.exception.code, "no_encoder")
        with self.assertRaises(ascribe.ArgumentError):
            self.seen.explain("a")

    def test_tables(self):
        c = self.ascribe.create_corpus("tables", 24)
        c.ingest(self.x[:2], [{"id": "one", "text": "<script>alert(1)</script> \x1b[31mred"}, "two"])
        answer = c.query(self.x[0], k=2, opponents=1, percentile=True)
        html, text = answer._repr_html_(), str(answer)
        self.assertIn("&lt;script&gt;", html)
        self.assertNotIn("<script>", html)
        self.assertNotIn("\x1b", html + text)
        for word in ("proponents", "opponents", "one", "two", "certified", "50.00"):
            self.assertIn(word, text)
        self.assertIn("one", str(c.search("script")) + c.search("script")._repr_html_())
        self.assertIn("one", str(c.scores(self.x[0])))

    def test_threads_share_a_client(self):
        want = [self.seen.query(q, k=5)[0].ids for q in self.x[:8]]
        got = [None] * 8

        def ask(i):
            got[i] = self.seen.query(self.x[i], k=5)[0].ids
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(got, want)

    def test_zz_every_documented_route_was_asked(self):
        patterns = {(m, p): re.compile(re.sub(r"\{\w+\}", "[^/]+", p) + "$")
                    for m, p, _ in documented_routes()}
        missing = [f"{m} {p}" for (m, p), found in patterns.items()
                   if not any(m == am and found.match(ap) for am, ap in self.asked)]
        self.assertEqual(missing, [], "client/python has no method that asks these")


class Elsewhere(h.Case):
    """Other ways to a server: a unix socket, a server that goes away, one that stammers."""

    def test_unix_socket_and_a_restart(self):
        path = os.path.join(self.scratch(), "sock")
        server = self.serve(listen=f"unix:{path}")
        with unittest.mock.patch.dict(os.environ, ASCRIBE_SERVER=f"unix:{path}",
                                      ASCRIBE_STORE=server.store):
            c = ascribe.Client()
        self.addCleanup(c.close)
        corpus = c.create_corpus("u", 4)
        corpus.ingest(np.eye(4), list("abcd"))
        server.stop()
        server.start()
        self.assertEqual(corpus.query(np.eye(4)[2], k=1)[0].ids, ["c"])  # the idle connection is stale

    def test_an_ingest_lives_through_a_killed_server(self):
        path = os.path.join(self.scratch(), "sock")
        server = self.serve(listen=f"unix:{path}")
        x = np.random.default_rng(9).standard_normal((300, 64)).astype("f4")
        halfway, go_on = threading.Event(), threading.Event()

        def rows():
            for i in range(0, 300, 10):
                if i == 150:
                    halfway.set()
                    go_on.wait(60)
                yield x[i:i + 10], [f"e{j}" for j in range(i, i + 10)]
        with ascribe.Client(url(server), store=server.store, retries=20) as c:
            corpus, told = c.create_corpus("c", 64), []
            thread = threading.Thread(
                target=lambda: told.append(corpus.ingest_stream(rows(), rows_per_batch=10, jobs=3)))
            thread.start()
            halfway.wait(60)
            server.kill()
            go_on.set()
            server.start()
            thread.join(120)
            self.assertEqual(len(told), 1, "the ingest failed")
            self.assertEqual(corpus.info().examples, 300)
            np.testing.assert_array_equal(corpus.encoding("e299").vector, h.normalise(x[299:])[0][0])
            self.assertEqual(told[0].batches + told[0].already, 30)

    def test_a_refusal_while_sending_is_heard(self):
        server = self.serve(["--body-limit", "1M"])
        with ascribe.Client(url(server), store=server.store, retries=0) as c:
            corpus = c.create_corpus("c", 4096)
            with self.assertRaises(ascribe.BadInput) as caught:
                corpus.put_batch("b", np.ones((1024, 4096), "f4"), [f"e{i}" for i in range(1024)])
            self.assertEqual((caught.exception.code, caught.exception.limit), ("too_large", 1 << 20))
            self.assertEqual(corpus.put_batch("b", np.ones((8, 4096), "f4"), list("abcdefgh")).examples, 8)
        with ascribe.Client(url(server), key="asc_x_y", retries=0) as c, self.assertRaises(ascribe.Unauthorized):
            c.corpus("c").put_batch("b2", np.ones((60, 4096), "f4"), [f"e{i}" for i in range(60)])

    def test_keys_are_found_as_the_command_line_finds_them(self):
        folder = self.scratch()
        for name, text in (("admin.key", "of-store\n"), ("file", "of-file more words\n"), ("empty", "")):
            with open(os.path.join(folder, name), "w", encoding="ascii") as f:
                f.write(text)
        file = os.path.join(folder, "file")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ASCRIBE_")}
        with unittest.mock.patch.dict(os.environ, clean, clear=True):
            self.assertIsNone(wire.find_key(None, None, None))
            self.assertEqual(wire.find_key(None, None, folder), "of-store")
            os.environ["ASCRIBE_KEY"] = "of-env"
            self.assertEqual(wire.find_key(None, None, folder), "of-env")
            self.assertEqual(wire.find_key(None, file, folder), "of-file")
            self.assertEqual(wire.find_key("given", file, folder), "given")
            for bad in ("empty", "absent"):
                with self.assertRaises(ascribe.ArgumentError):
                    wire.find_key(None, os.path.join(folder, bad), None)

    def test_addresses(self):
        self.assertEqual(wire.Address("https://host/pre/").prefix, "/pre")
        self.assertEqual(wire.Address("http://[::1]:7").port, 7)
        for bad in ("", "ftp://x", "host:80", "http://", "http://h:port", "http://h?x=1", "unix:",
                    "http://user@h"):
            with self.assertRaises(ascribe.ArgumentError, msg=bad):
                wire.Address(bad)


class Page(h.Case):
    """docs/python.md: its code runs, its names exist."""

    @classmethod
    def setUpClass(cls):
        with open(os.path.join(h.ROOT, "docs/python.md"), encoding="utf-8") as f:
            cls.text = f.read()

    def test_its_examples_run_in_order(self):
        server = self.serve()
        blocks = re.findall(r"```python\n(.*?)```", self.text, re.S)
        self.assertEqual(len(blocks), 6)
        world = {"client_url": url(server), "store": server.store}
        with unittest.mock.patch.dict(os.environ, ASCRIBE_SERVER=url(server), ASCRIBE_STORE=server.store), \
                contextlib.redirect_stdout(io.StringIO()) as out:
            for block in blocks:
                exec(compile(block, "docs/python.md", "exec"), world)  # the page is ours
                self.addCleanup(world["client"].close)
        self.assertIn("Ingested(examples=1000, duplicates=0, batches=1, ", out.getvalue())
        self.assertRegex(out.getvalue(), r"\ndoc-(17|4) 0\.\d+ text (17|4) \{'source'")
        self.assertEqual(world["g"].shape, (64,))

    def test_its_tables_name_every_public_method_and_error(self):
        for cls in (ascribe.Client, ascribe.Corpus):
            for name in vars(cls):
                if not name.startswith("_") and name != "close":
                    self.assertRegex(self.text, rf"`{name}\(", f"{cls.__name__}.{name}")
                    self.assertTrue(getattr(cls, name).__doc__, name)
        for name, value in vars(errors).items():
            if isinstance(value, type) and value.__module__ == errors.__name__:
                self.assertIn(f"`{name}", self.text.replace("ascribe.AscribeError", "AscribeError"), name)


class Stub:
    """A server of a few lines that answers each connection's request with the next of its replies.
    None hangs up without a word."""

    def __init__(self, case, replies):
        self.replies, self.requests = list(replies), []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        case.addCleanup(self.thread.join)
        case.addCleanup(self.socket.close)

    def run(self):
        for reply in self.replies:
            connection, _ = self.socket.accept()
            with connection, connection.makefile("rb") as f:
                head = [f.readline()]
                while head[-1] not in (b"\r\n", b""):
                    head.append(f.readline())
                length = [int(line.split()[1]) for line in head if line.lower().startswith(b"content-length")]
                self.requests.append((head[0].decode().strip(), f.read(length[0]) if length else b""))
                if reply is not None:
                    connection.sendall(reply)


def reply(status, body, *fields):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n" +
            "".join(f"{f}\r\n" for f in fields) + "\r\n").encode() + body


class Retries(h.Case):
    BUSY = reply(503, {"code": "busy", "detail": "the queue is full"}, "Retry-After: 7")
    STORED = reply(201, {"batch": "b", "examples": 1, "duplicates": 0, "sequence": 1})

    def client(self, *replies, retries=5):
        self.stub, self.pauses = Stub(self, replies), []
        c = ascribe.Client(self.stub.url, key="k", retries=retries, timeout=20)
        c._wire.pause = self.pauses.append
        return c

    def test_a_batch_is_sent_again_until_it_is_stored(self):
        slow = reply(408, {"code": "request_timeout", "detail": "the body arrives too slowly"})
        c = self.client(self.BUSY, None, reply(502, b"<html>bad gateway"), slow, self.STORED)
        self.assertTrue(c.corpus("c").put_batch("b", [[1.0]], ["x"]).created)
        self.assertEqual(len(set(self.stub.requests)), 1)  # the same bytes each time
        self.assertEqual(len(self.stub.requests), 5)
        self.assertGreaterEqual(self.pauses[0], 7)  # as the server asked
        self.assertTrue(0.4 <= self.pauses[1] <= 0.5 and 0.8 <= self.pauses[2] <= 1.0, self.pauses)

    def test_retries_end(self):
        c = self.client(self.BUSY, self.BUSY, retries=1)
        with self.assertRaises(ascribe.Busy) as caught:
            c.info()
        self.assertEqual((caught.exception.attempts, caught.exception.retry_after), (2, 7.0))

    def test_what_must_not_happen_twice_is_sent_once(self):
        c = self.client(None)
        with self.assertRaises(ascribe.NetworkError) as caught:
            c.create_key()
        self.assertEqual((caught.exception.code, self.pauses), ("broken", []))
        c = self.client(reply(504, {"code": "deadline", "detail": "late"}))
        with self.assertRaises(ascribe.Busy):
            c.corpus("c").fit()
        self.assertEqual(self.pauses, [])
        c = self.client(self.BUSY, reply(201, {"id": "i", "scope": "read", "created": "", "key": "s"}))
        self.assertEqual(c.create_key().secret, "s")  # 503 is said before any work begins

    def test_a_refusal_is_not_repeated(self):
        c = self.client(reply(422, {"code": "bad_id", "detail": "empty", "index": 3}))
        with self.assertRaises(ascribe.BadInput) as caught:
            c.corpus("c").put_batch("b", [[1.0]], [""])
        self.assertEqual((caught.exception.index, self.pauses), (3, []))

    def test_a_delete_whose_answer_was_lost(self):
        gone = reply(404, {"code": "unknown_example", "detail": "no"})
        self.client(None, gone).corpus("c").delete_example("x")
        with self.assertRaises(ascribe.NotFound):
            self.client(gone).corpus("c").delete_example("x")

    def test_a_cut_answer_is_asked_again_and_a_cut_stream_is_an_error(self):
        whole = reply(200, {"corpora": []})
        self.assertEqual(self.client(whole[:-5], whole).corpora(), [])
        body = b"".join(safetensors.encode({"scores": np.zeros((1, 9), "f4"),
                                            "sequences": np.arange(9), "ids": np.zeros(18, "u1")}))
        c = self.client(reply(200, body)[:-30])
        with self.assertRaises(ascribe.NetworkError) as caught:
            c.corpus("c").scores([[1.0]])
        self.assertEqual(caught.exception.code, "cut")

    def test_another_server(self):
        with self.assertRaises(ascribe.ProtocolError):
            self.client(reply(200, b"<html>")).info()
        with self.assertRaises(ascribe.ProtocolError):
            self.client(reply(302, b"")).info()

    def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            free = s.getsockname()[1]
        c = ascribe.Client(f"http://127.0.0.1:{free}", retries=2)
        c._wire.pause = lambda seconds: None
        with self.assertRaises(ascribe.NetworkError) as caught:
            c.create_key()
        self.assertEqual((caught.exception.code, caught.exception.attempts), ("connection", 3))

    def test_a_failed_job(self):
        job = {"id": "j1", "kind": "fit", "state": "failed", "progress": 0.5, "rate": None, "eta_s": None,
               "created": "", "error": {"code": "corrupt", "detail": "chunk 3"}}
        with self.assertRaises(ascribe.JobFailed) as caught:
            self.client(reply(202, {"job": job})).corpus("c").fit()
        self.assertEqual((caught.exception.code, caught.exception.job.id), ("corrupt", "j1"))
        self.assertIn("chunk 3", str(caught.exception))


class Alone(h.Case):
    """What needs no server: safetensors, batches, the projection's numbers, second moments."""

    def test_safetensors_there_and_back(self):
        r = np.random.default_rng(2)
        tensors = {"a": r.standard_normal((3, 5)).astype("f4"), "b": np.arange(7), "c": np.zeros((0, 4), "f2"),
                   "d": np.asfortranarray(r.standard_normal((4, 3)))}
        data = b"".join(safetensors.encode(tensors, {"k": "v"}))
        got, metadata = h.read_tensors(data)  # a reader that shares nothing with the package
        for name, x in tensors.items():
            np.testing.assert_array_equal(got[name][1], x)
        self.assertEqual(metadata, {"k": "v"})
        path = os.path.join(self.scratch(), "x.safetensors")
        safetensors.save(path, tensors)
        back, _ = safetensors.load(path)
        for name, x in tensors.items():
            np.testing.assert_array_equal(back[name], x)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["x.safetensors"])

    def test_malformed_safetensors_are_refused(self):
        good = b"".join(safetensors.encode({"a": np.zeros(4, "f4")}))
        entry = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[%s]}}'
        for bad in (b"", good[:5], good[:20], good[:-1], good + b"x", h.raw_tensors(b"[]"),
                    h.raw_tensors(b"{"), h.raw_tensors(b'{"a":3}'), h.raw_tensors(b"{}", b"", 1 << 40),
                    h.raw_tensors(entry % b"4,20", bytes(20)), h.raw_tensors(entry % b"0,12", bytes(12)),
                    h.raw_tensors(entry.replace(b"F32", b"F99") % b"0,16", bytes(16)),
                    h.raw_tensors(entry.replace(b"[4]", b"[-4]") % b"0,16", bytes(16))):
            with self.assertRaises(ascribe.FormatError, msg=bad):
                safetensors.loads(bad)

    def test_bfloat16_rounds_as_the_server_does(self):
        bits = np.random.default_rng(3).integers(0, 2**32, 200000, dtype=np.uint64).astype("<u4")
        x = bits.view("<f4")
        x = x[np.isfinite(x)]
        np.testing.assert_array_equal(safetensors.to_bf16(x), h.narrow(x, "bf16"))
        np.testing.assert_array_equal(safetensors.from_bf16(h.narrow(x, "bf16")),
                                      h.widen(h.narrow(x, "bf16"), "bf16"))
        self.assertTrue(np.isnan(safetensors.from_bf16(safetensors.to_bf16(np.array([np.nan], "f4"))))[0])

    def test_batches_are_cut_alike_however_they_come(self):
        x = np.arange(60, dtype="f4").reshape(20, 3) + 1
        names = [f"n{i}" for i in range(20)]
        whole = list(batches.cut([(x, names)], None, 6))
        pieces = list(batches.cut([(x[i:i + 1], names[i:i + 1]) for i in range(20)], None, 6))
        self.assertEqual([b.name for b in whole], [b.name for b in pieces])
        self.assertEqual([(b.first, b.rows) for b in whole], [(0, 6), (6, 6), (12, 6), (18, 2)])
        changed = x.copy()
        changed[7] += 1
        other = [b.name for b in batches.cut([(changed, names)], None, 6)]
        self.assertEqual([a == b.name for a, b in zip(other, whole)], [True, False, True, True])
        tensors, _ = safetensors.loads(b"".join(whole[1].body))
        np.testing.assert_array_equal(tensors["gradients"], x[6:12])
        self.assertEqual([json.loads(line)["id"] for line in bytes(tensors["examples"]).splitlines()], names[6:12])

    def test_wrong_arguments_are_named_before_anything_is_sent(self):
        c = ascribe.Client("unix:/nowhere/at/all", retries=0)
        for call in (lambda: c.corpus("c").put_batch("b", np.zeros((2, 3)), ["one"]),
                     lambda: c.corpus("c").put_batch("b", np.zeros((1, 2, 3)), ["one"]),
                     lambda: c.corpus("c").put_batch("b", [["a"]], ["one"]),
                     lambda: c.corpus("c").put_batch("b", [[1.0]], [{"text": "no id"}]),
                     lambda: c.corpus("c").put_batch("b", [[1.0]], [{"id": "\ud800"}]),
                     lambda: c.corpus("c").put_batch("b", [[1.0]], ["x"], dtype="f8"),
                     lambda: c.corpus("c").ingest(np.zeros((2, 3)), ["one"]),
                     lambda: c.corpus("c").ingest_stream([], jobs=0),
                     lambda: list(batches.cut([([[1.0]], ["a"]), ([[1.0, 2.0]], ["b"])], None, 9)),
                     lambda: c.corpus("").info(), lambda: c.create_corpus("c"),
                     lambda: projection.normals(-1, 0, 0, 0, 1), lambda: moment.Adam([[-1.0]])):
            with self.assertRaises(ascribe.ArgumentError):
                call()
        self.assertTrue(issubclass(ascribe.ArgumentError, (ascribe.AscribeError, ValueError)))

    def test_progress_without_a_terminal_says_nothing_unless_asked(self):
        with contextlib.redirect_stderr(io.StringIO()) as out:
            with Progress("x", 4) as bar:
                bar.add(4)
        self.assertEqual(out.getvalue(), "")
        with contextlib.redirect_stderr(io.StringIO()) as out, \
                unittest.mock.patch.dict(sys.modules, {"tqdm": None, "tqdm.auto": None}):
            with Progress("x", 4, True) as bar:
                bar.add(4)
        self.assertIn("4 of 4 rows", out.getvalue())
        if importlib.util.find_spec("tqdm"):
            with contextlib.redirect_stderr(io.StringIO()) as out, Progress("told", 4, True) as bar:
                bar.add(4)
            self.assertRegex(out.getvalue(), r"told: 100%.*4/4")

    def test_projection_meets_the_golden_values_and_the_c_code(self):
        rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (`.*`) \|$", h_page(), re.M)
        self.assertGreaterEqual(len(rows), 6)
        for *stream, text in rows:
            golden = [float.fromhex(v) for v in re.findall(r"`(\S+)`", text)]
            self.assertEqual(projection.normals(*map(int, stream), 4).tolist(), golden)
        for stream in ((2**64 - 1, 2**32 - 1, 1, 5, 30001), (99, 3, 0, 2**34 - 7, 3000), (1, 2, 1, 2**63, 3)):
            self.assertEqual(projection.normals(*stream).tobytes(),
                             page.printed("philox", *stream).tobytes())
        for seed, block, o, i, p in ((7, 2, 3, 4, 2), (5, 1, 128, 512, 16)):
            out = page.printed("project", seed, block, o, i, p)
            pair = projection.Projection(seed, block, o, i, p)
            self.assertEqual(pair.left.tobytes(), out[:p * o].astype("f4").tobytes())
            self.assertEqual(pair.right.tobytes(), out[p * o:p * (o + i)].astype("f4").tobytes())
            w = page.example_gradient(o, i)
            np.testing.assert_allclose(pair.apply(w), out[p * (o + i):], rtol=1e-4, atol=1e-3)

    def test_deviates_do_not_depend_on_how_they_are_asked_for(self):
        whole = projection.normals(3, 1, 1, 0, projection._PIECE + 77)
        for first, count in ((0, 1), (1, 2), (projection._PIECE - 3, 9), (5, 0)):
            self.assertEqual(projection.normals(3, 1, 1, first, count).tobytes(),
                             whole[first:first + count].tobytes())

    def test_factors_project_as_their_product_does(self):
        r = np.random.default_rng(4)
        delta, a = r.standard_normal((9, 12)), r.standard_normal((9, 7))
        pair = projection.Projection(11, 3, 12, 7, 4)
        np.testing.assert_allclose(pair.apply_factors(delta, a), pair.apply(delta.T @ a, np.float64),
                                   rtol=1e-5, atol=1e-5)

    def test_second_moments_are_the_documented_formulas(self):
        r = np.random.default_rng(6)
        w, v = r.standard_normal((5, 4)), r.random((5, 4)) + 1e-3
        np.testing.assert_allclose(moment.Adam(v).apply(w), w / (np.sqrt(v) + 1e-8), rtol=2e-7)
        row, col = v.mean(1), v.mean(0)
        second = moment.Adafactor(row, col)
        want = w / np.sqrt(np.outer(row, col) / row.mean())
        np.testing.assert_allclose(second.apply(w), want, rtol=3e-7)
        p, q = r.standard_normal((2, 5)), r.standard_normal((2, 4))
        folded_p, folded_q = second.fold(p, q)
        np.testing.assert_allclose(folded_p @ w @ folded_q.T, p @ want @ q.T, rtol=1e-5)

    def test_tables_fit_their_width(self):
        t = table.Table("title", ["id", "text"], [["x", "word " * 50], ["y" * 90, "ü\u202e\n\tz"]])
        self.assertTrue(all(len(line) <= 100 for line in t.text(100).splitlines()), t.text(100))
        self.assertNotIn("\u202e", t.text(100) + t.html())

    def test_the_package_installs(self):
        for needed in ("pip", "setuptools", "wheel"):
            if importlib.util.find_spec(needed) is None:
                self.skipTest(f"needs python3-{needed}")
        folder = self.scratch()
        shutil.copytree(PACKAGE, os.path.join(folder, "source"),
                        ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                        "--no-build-isolation", "--root-user-action=ignore", "--target", os.path.join(folder, "site"),
                        os.path.join(folder, "source")], check=True, env=env, capture_output=True, cwd=folder)
        out = subprocess.run([sys.executable, "-c", "import ascribe, os; print(ascribe.__version__, "
                              "os.path.dirname(ascribe.__file__), sorted(os.listdir(os.path.dirname(ascribe.__file__))))"],
                             check=True, env=dict(env, PYTHONPATH=os.path.join(folder, "site")),
                             capture_output=True, text=True, cwd=folder).stdout
        self.assertIn(os.path.join(folder, "site", "ascribe"), out)
        for part in ("0.1.0", "'torch'", "'py.typed'", "'projection.py'"):
            self.assertIn(part, out)


def h_page():
    with open(page.PAGE, encoding="utf-8") as f:
        return f.read()


if __name__ == "__main__":
    h.main()
