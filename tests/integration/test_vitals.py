"""test_vitals.py - what a corpus weighs, how fast it grows, how long its examples are: against numpy
and against the files that a backup of the store is made of."""
import time

import numpy as np

import harness as h

DIM = 64


class Vitals(h.ServerCase):
    args = ("--chunk-bytes", "32K")

    def fill(self, corpus, n=500, dtype="f32", texts=True, dim=DIM):
        r = np.random.default_rng(41)
        x = (r.standard_normal((n, dim)) * np.exp(r.standard_normal((n, 1)) * 2)).astype("<f4")
        self.create(self.client, corpus, dim, dtype)
        for b in range(0, n, 100):
            part = range(b, min(b + 100, n))
            self.ingest(self.client, corpus, f"b{b}", x[part.start:part.stop],
                        [{"id": f"e{i}", **({"text": f"the text of {i}: {r.integers(1 << 60)}"} if texts else {}),
                          "meta": {"n": i}} for i in part])
        return x

    def look(self, corpus):
        return self.assert_status(self.client.get("/v1/corpora/" + corpus), 200).json()

    # ---- planes ----------------------------------------------------------------------------------

    def test_planes_add_up_to_what_lies_on_disk(self):
        n, dim = 300, 1024
        for dtype, size in (("f32", 4), ("f16", 2)):
            name = "heavy-" + dtype
            self.fill(name, n, dtype, dim=dim)
            c = self.look(name)
            planes = c["planes"]
            self.assertEqual(c["coded"], n)
            self.assertEqual([planes[p] for p in ("rows", "bits", "six", "low")],
                             [n * dim * size, n * dim // 8, n * dim * 6 // 8, n * dim * 2 // 8])
            self.assertGreater(planes["factors"], 0)
            self.assertGreater(planes["texts"], n * 8)
            self.assertGreater(planes["ids"], n * (8 + 8 + 8 + 2))
            # the rest is LMDB's: pages rounded up, eight blocks a chunk
            self.assertLess(sum(planes.values()), c["bytes"])
            self.assertLess(c["bytes"] - sum(planes.values()), (8 * 4096 + 8192) * c["chunks"] + 65536 * c["shards"])

    def test_planes_follow_what_happens(self):
        self.fill("grows", 300)
        first = self.look("grows")["planes"]
        self.assertEqual(self.look("grows")["planes"], first)
        self.ingest(self.client, "grows", "more", np.ones((10, DIM)), [{"id": f"m{i}", "text": "more " * 50} for i in range(10)])
        second = self.look("grows")["planes"]
        self.assertEqual(second["rows"], first["rows"] + 10 * DIM * 4)
        self.assertGreater(second["texts"], first["texts"])
        for i in range(0, 300, 2):
            self.assert_status(self.client.delete(f"/v1/corpora/grows/examples/e{i}"), 204)
        self.assertEqual(self.look("grows")["planes"], second)  # rows taken down lie there until compacted
        self.wait_job(self.client, self.client.post("/v1/admin/compact?corpus=grows"))
        third = self.look("grows")
        self.assertEqual(third["planes"]["rows"], 160 * DIM * 4)
        self.assertLess(third["planes"]["texts"], second["texts"])
        self.assertEqual(self.look("grows")["planes"], third["planes"])
        self.assertEqual(self.create(self.client, "bare", 8)["planes"],
                         dict.fromkeys(("rows", "bits", "six", "low", "factors", "ids", "texts"), 0))
        self.create(self.client, "narrow", 1)
        self.ingest(self.client, "narrow", "b", [[1]], ["a"])
        self.assertEqual(self.look("narrow")["planes"]["rows"], 4)

    def test_pace(self):
        self.create(self.client, "pace", DIM)
        self.assertEqual(self.look("pace")["ingest"], {"rows_per_s": 0.0, "bytes_per_s": 0.0})
        began = time.monotonic()
        for b in range(5):
            self.ingest(self.client, "pace", f"b{b}", np.ones((20, DIM)), [f"{b}-{i}" for i in range(20)])
        pace = self.look("pace")["ingest"]
        most = time.monotonic() - began + 2
        self.assertLessEqual(pace["rows_per_s"], 100.0)
        self.assertGreaterEqual(pace["rows_per_s"], 100 / most)
        self.assertAlmostEqual(pace["bytes_per_s"], pace["rows_per_s"] * DIM * 4, delta=1e-6)
        # what is resent is not stored again
        self.ingest(self.client, "pace", "b0", np.ones((20, DIM)), [f"0-{i}" for i in range(20)], status=200)
        self.assertLessEqual(self.look("pace")["ingest"]["rows_per_s"], 100.0)
        self.assert_status(self.client.delete("/v1/corpora/pace"), 204)
        self.assertEqual(self.create(self.client, "pace", DIM)["ingest"]["rows_per_s"], 0.0)

    # ---- norms -----------------------------------------------------------------------------------

    def norms(self, corpus, params=""):
        return self.assert_status(self.client.get(f"/v1/corpora/{corpus}/norms{params}"), 200).json()

    def check(self, got, norms, bins):
        self.assertEqual((got["examples"], got["min"], got["max"]), (len(norms), norms.min(), norms.max()))
        self.assertEqual(got["median"], np.sort(norms)[(len(norms) - 1) // 2])
        edges = np.array([b["from"] for b in got["bins"]] + [got["bins"][-1]["to"]])
        self.assertEqual(len(got["bins"]), bins)
        self.assertEqual([b["to"] for b in got["bins"][:-1]], [b["from"] for b in got["bins"][1:]])
        self.assertEqual([b["count"] for b in got["bins"]], np.histogram(norms, edges)[0].tolist())
        self.assertEqual((edges[0], edges[-1]), (norms.min(), norms.max()))
        np.testing.assert_allclose(np.diff(np.log(edges)), np.log(norms.max() / norms.min()) / bins, rtol=1e-9)

    def all_norms(self, corpus):
        out, after = [], None
        while True:
            page = self.client.get(f"/v1/corpora/{corpus}/examples?limit=1000" + (f"&after={after}" if after else "")).json()
            out += [(e["id"], e["norm"]) for e in page["examples"]]
            after = page["next"]
            if after is None:
                return out

    def test_norms_against_numpy(self):
        x = self.fill("long", 451)
        _, norms = h.normalise(x)
        for bins in (8, 64, 512):
            self.check(self.norms("long", f"?bins={bins}"), norms, bins)
        for i in range(0, 451, 3):
            self.assert_status(self.client.delete(f"/v1/corpora/long/examples/e{i}"), 204)
        left = np.arange(451) % 3 != 0
        self.check(self.norms("long"), norms[left], 64)
        some = left & (np.arange(451) < 100)
        self.check(self.norms("long", "?bins=20&filter=" + h.quote("meta.n < 100")), norms[some], 20)
        none = self.norms("long", "?filter=" + h.quote('id = "x"'))
        self.assertEqual(none, {"examples": 0, "min": None, "max": None, "median": None, "bins": []})
        self.wait_job(self.client, self.client.post("/v1/corpora/long/fit"))
        whitened = np.array([n for _, n in self.all_norms("long")])
        self.check(self.norms("long"), whitened, 64)
        self.assertNotEqual(whitened.max(), norms[left].max())

    def test_norms_of_every_size(self):
        self.create(self.client, "sizes", 2)
        tall = np.array([[3e-30, 4e-30], [3e30, 4e30], [1, 0], [1, 1e-6]], "<f4")
        self.ingest(self.client, "sizes", "b", tall, list("abcd"))
        self.check(self.norms("sizes"), h.normalise(tall)[1], 64)
        self.create(self.client, "equal", 2)
        self.ingest(self.client, "equal", "b", [[3, 4], [4, 3], [5, 0]], list("abc"))
        self.assertEqual(self.norms("equal"), {"examples": 3, "min": 5.0, "max": 5.0, "median": 5.0,
                                               "bins": [{"from": 5.0, "to": 5.0, "count": 3}]})
        for bins in ("7", "513", "x", ""):
            self.assert_problem(self.client.get(f"/v1/corpora/equal/norms?bins={bins}"), 400, "invalid_request", field="bins")
        self.assert_problem(self.client.get("/v1/corpora/equal/norms?filter=("), 400, "bad_filter")
        self.assert_problem(self.client.get("/v1/corpora/nothing/norms"), 404, "unknown_corpus")


if __name__ == "__main__":
    h.main()
