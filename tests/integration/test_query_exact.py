"""test_query_exact.py - every engine over HTTP equals the oracle: ids, order and every bit of the scores.

Seeded corpora of many dimensions, all dtypes, ties, duplicates, deletions, many small batches and few
big ones; then the same requests to servers that differ in instruction set, threads and shard size: the
bytes of their results must be the same.
"""
import itertools
import struct
import threading
import time

import numpy as np

import harness as h


def bits(hits):
    """Hits with their scores as 8 bytes, so that a last bit or a sign of zero shows."""
    return [(i, struct.pack("<d", s).hex(), n) for i, s, n in hits]


def served(result, end):
    return [(p["id"], p["score"], p["sequence"]) for p in result[end]]


class Corpus:
    """One corpus on a server, and what it must be."""

    def __init__(self, test, client, name, dim, dtype="f32"):
        self.test, self.client, self.name, self.dim = test, client, name, dim
        self.oracle, self.batches = h.Oracle(dim, dtype), 0
        test.create(client, name, dim, dtype)

    def ingest(self, x, ids, sent="f32"):
        x = np.asarray(x, "<f4").reshape(-1, self.dim)
        stored, duplicates = self.oracle.ingest(x, ids, sent)
        reply = self.client.put(f"/v1/corpora/{self.name}/batches/b{self.batches}", h.batch(x, ids, sent))
        self.test.assert_status(reply, 201)
        self.test.assertEqual(reply.json(), {"batch": f"b{self.batches}", "examples": stored, "duplicates": duplicates,
                                             "sequence": self.oracle.next})
        self.batches += 1

    def delete(self, name):
        self.test.assert_status(self.client.delete(f"/v1/corpora/{self.name}/examples/{h.quote(name)}"), 204)
        self.oracle.delete(name)

    def check(self, q, k, opponents=0, sent="f32", engines=("flat", "scan", "tiered", "tiered&precision=probabilistic")):
        """One request of all rows of q, by each engine; every result against the oracle."""
        return [self.check_engine(q, k, opponents, sent, engine) for engine in engines][0]

    def check_engine(self, q, k, opponents, sent, engine):
        q = np.asarray(q, "<f4").reshape(-1, self.dim)
        path = f"/v1/corpora/{self.name}/query?k={k}&opponents={opponents}&engine={engine}&text=0"
        got = self.test.assert_status(self.client.post(path, h.queries(q, sent)), 200).json()
        engine, _, precision = engine.partition("&precision=")
        self.test.assertIn(got["exact"], ("certified", precision or "certified"))
        self.test.assertEqual(got.get("delta"), 1e-9 if got["exact"] == "probabilistic" else None)
        self.test.assertEqual(got["examples"], len(self.oracle.ids))
        self.test.assertIn(got["engine"], ("flat", "scan", "tiered") if engine == "auto" else (engine,))
        self.test.assertEqual(len(got["results"]), len(q))
        for n, result in enumerate(got["results"]):
            pro, opp = self.oracle.top(q[n], k, opponents, sent)
            where = f"{self.name}, query {n}, k {k}"
            self.test.assertEqual(bits(served(result, "proponents")), bits(pro), where)
            self.test.assertEqual(bits(served(result, "opponents")), bits(opp), where)
            self.test.assertEqual([p["rank"] for p in result["proponents"]], list(range(1, len(pro) + 1)))
        return got

    def check_scores(self, q, sent="f32"):
        q = np.asarray(q, "<f4").reshape(-1, self.dim)
        right = np.array([self.oracle.scores(row, sent) for row in q]).reshape(len(q), -1)
        for word, dtype in (("f64", "<f8"), ("f32", "<f4")):
            reply = self.client.post(f"/v1/corpora/{self.name}/scores?dtype={word}", h.queries(q, sent))
            found, _ = h.read_tensors(self.test.assert_status(reply, 200).body)
            self.test.assertEqual(found["scores"][1].tobytes(), right.astype(dtype).tobytes(), self.name)
            self.test.assertEqual(found["sequences"][1].tolist(), self.oracle.sequences.tolist())
            ids = "".join(i + "\n" for i in self.oracle.ids)
            self.test.assertEqual(found["ids"][1].tobytes().decode(), ids)


class Exact(h.ServerCase):
    """Against the oracle, one server."""

    def random(self, seed, *shape):
        return np.random.default_rng(seed).standard_normal(shape).astype("<f4")

    def test_dimensions(self):
        for dim in (1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 1000, 1023, 4096):
            with self.subTest(dim=dim):
                n = 200 if dim <= 1024 else 60
                c = Corpus(self, self.client, f"dim{dim}", dim)
                x = self.random(dim, n, dim)
                c.ingest(x[:n // 3], [f"a{i}" for i in range(n // 3)])
                c.ingest(x[n // 3:], [f"b{i}" for i in range(n - n // 3)])
                q = np.vstack([self.random(dim + 1, 3, dim), x[:2], -x[7:8]])
                for k, opponents in ((1, 0), (10, 5), (0, 3), (n, n), (10000, 10000)):
                    c.check(q, k, opponents)
                c.check_scores(q)

    def test_dimension_131072(self):
        c = Corpus(self, self.client, "huge", 131072)
        x = self.random(1, 12, 131072)
        c.ingest(x[:5], [f"a{i}" for i in range(5)])
        c.ingest(x[5:], [f"b{i}" for i in range(7)])
        q = np.vstack([x[3] + 0.1 * x[9], self.random(2, 1, 131072)])
        c.check(q, 5, 3)
        c.check_scores(q)

    def test_every_stored_and_sent_dtype(self):
        for stored in ("f32", "f16", "bf16"):
            c = Corpus(self, self.client, "stored-" + stored, 100, stored)
            x = self.random(3, 90, 100) * 10.0 ** np.arange(-3, 6).repeat(10)[:, None]
            for b, sent in enumerate(("f32", "f16", "bf16")):
                part = x[b::3] if sent != "f16" else x[b::3] / np.abs(x[b::3]).max() * 100
                c.ingest(part, [f"{sent}-{i}" for i in range(30)], sent)
            for sent in ("f32", "f16", "bf16"):
                c.check(self.random(4, 4, 100), 20, 20, sent)
                c.check_scores(self.random(5, 2, 100), sent)

    def test_ties_are_ordered_by_sequence(self):
        # Rows of +-1 only: whole families of equal scores, at every place of the order.
        for dim, dtype in ((4, "f32"), (8, "f16"), (16, "bf16")):
            r = np.random.default_rng(dim)
            c = Corpus(self, self.client, f"ties{dim}", dim, dtype)
            for b in range(6):
                c.ingest(r.choice([-1.0, 1.0], (50, dim)), [f"{b}-{i}" for i in range(50)])
            for k in (1, 2, 7, 50, 149, 300):
                c.check(r.choice([-1.0, 1.0], (3, dim)), k, k)
            c.check(np.eye(dim)[:2], 100, 100)

    def test_the_same_vector_many_times(self):
        c = Corpus(self, self.client, "same", 33)
        row = self.random(6, 33)
        for b in range(4):
            c.ingest(np.tile(row, (25, 1)) * (b + 1), [f"{b}-{i}" for i in range(25)])
        for k in (1, 10, 99, 100, 101):
            c.check(self.random(7, 2, 33), k, k)

    def test_orthogonal_scores_are_zero_and_tie(self):
        c = Corpus(self, self.client, "zero", 64)
        c.ingest(np.eye(64)[1:] * np.where(np.arange(63) % 2, 1, -1)[:, None], [f"e{i}" for i in range(63)])
        c.check(np.eye(64)[0], 10, 10)  # +0 and -0 are one score

    def test_near_ties_below_float32(self):
        # Scores that differ by less than float32 can say: FAISS cannot order them, the exact kernel must.
        c = Corpus(self, self.client, "near", 256)
        base = self.random(8, 256)
        r = np.random.default_rng(9)
        x = np.tile(base, (400, 1))
        x[np.arange(400), r.integers(0, 256, 400)] *= 1 + 2.0 ** -r.integers(10, 23, 400)
        for b in range(4):
            c.ingest(x[b * 100:(b + 1) * 100], [f"{b}-{i}" for i in range(100)])
        for k in (1, 5, 10, 100, 399):
            c.check(np.vstack([base, -base, base + 0.001 * self.random(10, 256)]), k, k)

    def test_duplicates_are_skipped_and_the_first_stays(self):
        c = Corpus(self, self.client, "dup", 12)
        x = self.random(11, 60, 12)
        c.ingest(x[:20], [f"d{i}" for i in range(20)])
        c.ingest(x[20:40], [f"d{i}" for i in range(10, 30)])
        c.ingest(x[40:60], [f"d{i}" for i in range(20)])  # nothing new
        c.check(x[::7], 60, 60)
        c.check_scores(x[:3])

    def test_deletions_between(self):
        r = np.random.default_rng(12)
        c = Corpus(self, self.client, "del", 20)
        x = self.random(13, 300, 20)
        for b in range(6):
            c.ingest(x[b * 50:(b + 1) * 50], [f"x{i}" for i in range(b * 50, (b + 1) * 50)])
            for i in r.choice(len(c.oracle.ids), 12, replace=False):
                if f"x{i}" in c.oracle.ids:
                    c.delete(f"x{i}")
            c.check(x[r.integers(0, 300, 3)], 10, 10)
        gone = [f"x{i}" for i in range(300) if f"x{i}" not in c.oracle.ids]
        c.ingest(x[:len(gone)], gone)  # they come back, with new sequences
        c.check(x[:4], 400, 400)
        c.check_scores(x[:2])
        for name in list(c.oracle.ids):
            c.delete(name)
        c.check(x[:2], 10, 10)  # nothing left
        c.check_scores(x[:2])

    def test_empty_corpus(self):
        c = Corpus(self, self.client, "empty", 5)
        got = c.check(self.random(14, 3, 5), 10, 10)
        self.assertEqual(got["results"], [{"proponents": [], "opponents": []}] * 3)
        c.check_scores(self.random(14, 2, 5))

    def test_many_small_batches_and_one_big(self):
        x = self.random(15, 3000, 24)
        many = Corpus(self, self.client, "many", 24)
        for i in range(250):
            many.ingest(x[i * 12:(i + 1) * 12], [f"r{j}" for j in range(i * 12, (i + 1) * 12)])
        one = Corpus(self, self.client, "one", 24)
        one.ingest(x, [f"r{j}" for j in range(3000)])
        q = self.random(16, 8, 24)
        for k in (1, 10, 500):
            a, b = many.check(q, k, k), one.check(q, k, k)
            self.assertEqual(a["results"], b["results"])

    def test_batch_of_queries_equals_single_ones(self):
        c = Corpus(self, self.client, "multi", 48)
        c.ingest(self.random(17, 500, 48), [f"m{i}" for i in range(500)])
        q = self.random(18, 100, 48)
        together = c.check(q, 7, 3)["results"]
        for i in (0, 1, 50, 99):
            self.assertEqual(c.check(q[i], 7, 3)["results"][0], together[i])

    def one_seeded_corpus(self, client, seed):
        """Small random everything: dimension, dtypes, ties, deletions, k, which end."""
        r = np.random.default_rng(1000 + seed)
        c = Corpus(self, client, f"s{seed}", int(r.integers(1, 40)) * (1 if seed % 4 else 9), ["f32", "f16", "bf16"][seed % 3])
        for _ in range(int(r.integers(0, 4))):
            n = int(r.integers(1, 30))
            x = r.standard_normal((n, c.dim)) if r.random() < .5 else r.choice([-2., -1., 1., 2.], (n, c.dim))
            c.ingest(x * 10.0 ** r.integers(-6, 6), [f"i{v}" for v in r.choice(200, n, replace=False)])
        for name in list(c.oracle.ids)[::int(r.integers(4, 20))]:
            c.delete(name)
        for _ in range(3):
            q = r.standard_normal((2, c.dim)) if r.random() < .5 else r.choice([-1., 1.], (2, c.dim))
            c.check(q, int(r.integers(0, 40)), int(r.integers(0, 40)),
                    engines=("auto", "scan") if seed % 2 else ("flat", "tiered&precision=probabilistic", "tiered"))
        self.assert_status(client.delete(f"/v1/corpora/{c.name}"), 204)

    def test_seeded_corpora(self):
        """As many as fit in the time, from several clients at once. tests/unit/index goes to thousands."""
        end, seeds, faults, done = time.monotonic() + 12, itertools.count(), [], []

        def work():
            client = self.server.client()
            while time.monotonic() < end and not faults:
                seed = next(seeds)
                try:
                    self.one_seeded_corpus(client, seed)
                    done.append(seed)
                except BaseException as fault:  # noqa: BLE001 - told below, with its seed
                    faults.append(f"seed {seed}: {fault}")
        threads = [threading.Thread(target=work) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertFalse(faults, faults[:1])
        print(f"figure: {len(done)} seeded corpora equal the oracle over HTTP")
        self.assertGreater(len(done), 10)

    def test_json_queries_read_as_float32(self):
        c = Corpus(self, self.client, "json", 6)
        c.ingest(self.random(19, 40, 6), [f"j{i}" for i in range(40)])
        q = self.random(20, 3, 6)
        body = {"queries": [[float(v) for v in row] for row in q], "k": 5, "opponents": 5, "text": False, "engine": "flat"}
        got = self.assert_status(self.client.post("/v1/corpora/json/query", body), 200).json()
        self.assertEqual(got["results"], c.check(q, 5, 5)["results"])


class SameBytes(h.Case):
    """Servers that differ in what must not matter answer the same bytes."""

    VARIANTS = (((), {}), ((), {"ASCRIBE_SIMD": "generic"}), ((), {"ASCRIBE_SIMD": "avx2"}), ((), {"ASCRIBE_SIMD": "avx512"}),
                (("--threads", "1"), {}), (("--threads", "2"), {}), (("--threads", "4"), {}),
                (("--shard-bytes", "1M", "--chunk-bytes", "64K"), {}),
                (("--shard-bytes", "2M", "--chunk-bytes", "256K", "--threads", "3"), {"ASCRIBE_SIMD": "generic"}))

    def answers(self, args, env):
        """The bytes of all results of a fixed history on a fresh server, and how many shards it took."""
        server = self.serve(args, env)
        client, out, shards = server.client(), [], 0
        r = np.random.default_rng(42)
        for dim, n, dtype in ((7, 400, "f32"), (300, 900, "f32"), (1000, 500, "f16"), (1000, 500, "bf16"), (5000, 120, "f32")):
            name = f"c{dim}-{dtype}"
            self.create(client, name, dim, dtype)
            x = r.standard_normal((n, dim)).astype("<f4")
            x[n // 2:n // 2 + 20] = x[:20]
            for b in range(4):
                self.ingest(client, name, f"b{b}", x[b * n // 4:(b + 1) * n // 4], [f"{i}" for i in range(b * n // 4, (b + 1) * n // 4)])
            for i in range(0, n, 9):
                self.assert_status(client.delete(f"/v1/corpora/{name}/examples/{i}"), 204)
            q = np.vstack([x[3:5], r.standard_normal((3, dim))])
            for k, opponents, more in ((1, 1, "cosine"), (10, 5, "cosine&engine=tiered"), (n, n, "cosine"), (n, 9, "dot"),
                                       (7, 9, "dot&engine=tiered"), (9, 7, "cosine&engine=tiered&precision=probabilistic")):
                reply = client.post(f"/v1/corpora/{name}/query?k={k}&opponents={opponents}&score={more}", h.queries(q))
                self.assert_status(reply, 200)
                out.append(reply.body[:reply.body.index(b'],"exact":')])
                if "tiered" in more:
                    self.assertEqual(reply.json()["engine"], "tiered")
            reply = client.post(f"/v1/corpora/{name}/scores?dtype=f64", h.queries(q))
            found, _ = h.read_tensors(self.assert_status(reply, 200).body)
            out.append(b"".join(found[t][1].tobytes() for t in ("scores", "sequences", "ids")))
            shards = max(shards, client.get(f"/v1/corpora/{name}").json()["shards"])
            if dim == 300:
                out += self.whitened(client, name, r)
        simd = client.get("/v1/info").json()["simd"]
        client.close()
        server.stop()
        return out, shards, simd

    def whitened(self, client, name, r):
        """The same after a fit: the fit is of one machine, what goes through it must not show another."""
        self.wait_job(client, client.post(f"/v1/corpora/{name}/fit"))
        late = r.standard_normal((70, 300)).astype("<f4")
        self.ingest(client, name, "late", late, [f"late{i}" for i in range(70)])
        ask = lambda q: h.read_tensors(self.assert_status(client.post(  # noqa: E731
            f"/v1/corpora/{name}/scores?dtype=f64&score=dot", h.queries(q)), 200).body)[0]["scores"][1]
        q = np.vstack([late[:20], r.standard_normal((40, 300))])
        whole = ask(q)
        for n in (1, 3, 4, 5, 47, 49):  # how many come along does not show
            self.assertEqual(ask(q[:n]).tobytes(), whole[:n].tobytes())
            self.assertEqual(ask(q[-n:]).tobytes(), whole[-n:].tobytes())
        self.assertEqual(whole[:20, -70:-50].tobytes(), whole[:20, -70:-50].T.tobytes())  # a row is its own query
        page = client.get(f"/v1/corpora/{name}/examples?limit=1000").json()["examples"]
        return [whole.tobytes(), struct.pack(f"{len(page)}d", *(e["norm"] for e in page))]

    def test_simd_threads_and_shards_do_not_show(self):
        right, sizes, seen = None, [], set()
        for args, env in self.VARIANTS:
            out, shards, simd = self.answers(args, env)
            sizes.append(shards)
            seen.add(simd)
            right = right or out
            self.assertEqual([len(o) for o in out], [len(o) for o in right])
            self.assertTrue(out == right, f"{args} {env} ({simd}, {shards} shards) answers other bytes")
        self.assertGreater(max(sizes), 1, "no variant made a second shard")
        self.assertIn("generic", seen)
        print(f"figure: {len(self.VARIANTS)} servers ({', '.join(sorted(seen))}; up to {max(sizes)} shards) answer the same bytes")

    def test_restart_answers_the_same(self):
        server = self.serve()
        client = server.client()
        x = np.random.default_rng(5).standard_normal((500, 64)).astype("<f4")
        self.create(client, "c", 64)
        self.ingest(client, "c", "b", x, [f"{i}" for i in range(500)])
        ask = lambda c: c.post("/v1/corpora/c/query?k=50&opponents=50", h.queries(x[:5])).json()["results"]  # noqa: E731
        before = ask(client)
        client.close()
        server.stop()
        server.start(create=False)
        client = server.client()
        self.assertEqual(ask(client), before)
        client.close()


if __name__ == "__main__":
    h.main()
