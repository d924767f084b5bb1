"""test_fit.py - the method against its definition: whitening and tasks of the server, beside TrackStar in
dense numpy float64 (docs/encoding.md), and what a kill in the middle leaves.

Every score is compared with <R^(-1/2) g, R^(-1/2) h> / (|.| |.|), R made whole from the gradients.
"""
import json
import os
import re
import shutil
import subprocess
import threading
import time

import numpy as np

import harness
from harness import ServerCase, batch, queries, read_tensors, tensors, wait_until

CLOSE = 1e-5


def made(rng, n, dim, skew=1.0):
    """Gradients that whitening matters for: correlated columns over some decades, rows of all lengths."""
    mix = rng.normal(size=(dim, dim)) * np.logspace(0, -skew, dim)
    x = rng.normal(size=(n, dim)) @ mix + 0.5 * rng.normal(size=(1, dim)) @ mix
    return (x * np.exp(rng.normal(size=(n, 1)))).astype("<f4")


class Dense:
    """TrackStar by its definition: one R for each block, inverse root by eigenvectors."""

    def __init__(self, blocks, gradients, damping=0.1, evaluation=None, lam=0.0):
        g = np.asarray(gradients, "f8")
        self.roots, at = [], 0
        for dim in blocks:
            b = g[:, at:at + dim]
            r = b.T @ b / len(b)
            r += damping * np.trace(r) / dim * np.eye(dim)
            if evaluation is not None:
                e = np.asarray(evaluation, "f8")[:, at:at + dim]
                r = (1 - lam) * r + lam * (e.T @ e) / len(e)
            values, vectors = np.linalg.eigh(r)
            self.roots.append((at, at + dim, vectors @ np.diag(values ** -0.5) @ vectors.T))
            at += dim

    def encode(self, gradients):
        g = np.asarray(gradients, "f8")
        return np.concatenate([g[:, a:b] @ root for a, b, root in self.roots], axis=1)

    def unit(self, gradients):
        x = self.encode(gradients)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def scores(self, q, gradients):
        return self.unit(q) @ self.unit(gradients).T


class FitCase(ServerCase):
    count = 0

    def corpus(self, blocks, dtype="f32", **more):
        FitCase.count += 1
        name = f"c{FitCase.count}"
        self.create(self.client, name, sum(blocks), dtype,
                    blocks=[{"name": f"b{i}", "dim": d} for i, d in enumerate(blocks)], **more)
        return name

    def fill(self, name, gradients, first=0, batch_name=None):
        examples = [{"id": f"e{first + i}", "text": f"text {first + i}"} for i in range(len(gradients))]
        return self.ingest(self.client, name, batch_name or f"b{first}", gradients, examples)

    def fit(self, name, **options):
        query = "&".join(f"{k}={v}" for k, v in options.items())
        job = self.wait_job(self.client, self.client.post(f"/v1/corpora/{name}/fit?{query}"), 120)
        self.assertEqual(job["state"], "succeeded", job)
        return job

    def all_scores(self, name, q, task=None):
        """{id: [score of each query]}, by the streamed scores."""
        more = f"&task={task}" if task else ""
        reply = self.client.post(f"/v1/corpora/{name}/scores?dtype=f64{more}", queries(q),
                                 type=harness.TENSORS)
        found, _ = read_tensors(self.assert_status(reply, 200).body)
        ids = found["ids"][1].tobytes().decode().split("\n")[:-1]
        return dict(zip(ids, found["scores"][1].T))

    def check_scores(self, name, q, dense, gradients, ids, task=None, close=CLOSE):
        got = self.all_scores(name, q, task)
        want = dense.scores(q, gradients)
        self.assertEqual(sorted(got), sorted(ids))
        worst = max(np.abs(got[i] - want[:, n]).max() for n, i in enumerate(ids))
        self.assertLess(worst, close)
        self.check_query(name, q, want, got, ids, task, close)

    def check_query(self, name, q, want, got, ids, task, close):
        """The ranking is that of the scores, bit for bit, and near the dense one."""
        more = f"&task={task}" if task else ""
        reply = self.client.post(f"/v1/corpora/{name}/query?k=7&opponents=5{more}", queries(q),
                                 type=harness.TENSORS)
        for n, result in enumerate(self.assert_status(reply, 200).json()["results"]):
            order = sorted(ids, key=lambda i: -got[i][n])
            self.assertEqual([h["score"] for h in result["proponents"]],
                             [got[i][n] for i in order[:7]])
            self.assertEqual([h["score"] for h in result["opponents"]],
                             [got[i][n] for i in order[::-1][:5]])
            self.assertLess(abs(result["proponents"][0]["score"] - want[n].max()), close)


class TestFit(FitCase):
    def test_scores_are_trackstar(self):
        rng = np.random.default_rng(1)
        for blocks in ([24], [16, 40], [5, 1, 33, 17]):
            with self.subTest(blocks=blocks):
                g, q = made(rng, 300, sum(blocks)), made(rng, 7, sum(blocks))
                name = self.corpus(blocks)
                self.fill(name, g[:200])
                self.fill(name, g[200:], 200)
                job = self.fit(name)
                self.assertEqual(job["result"]["rows"], 300)
                about = self.client.get(f"/v1/corpora/{name}").json()
                self.assertIs(about["whitened"], True)
                self.assertEqual(about["fit"]["damping"], 0.1)
                self.assertEqual([b["dim"] for b in about["fit"]["blocks"]], blocks)
                at = 0
                for b in about["fit"]["blocks"]:
                    mean = np.mean(np.sum(g[:, at:at + b["dim"]].astype("f8") ** 2, axis=1)) / b["dim"]
                    self.assertAlmostEqual(b["mean_eigenvalue"] / mean, 1, 5)
                    at += b["dim"]
                dense = Dense(blocks, g)
                self.check_scores(name, q, dense, g, [f"e{i}" for i in range(300)])
                one = self.client.get(f"/v1/corpora/{name}/examples/e7").json()
                self.assertAlmostEqual(one["norm"] / np.linalg.norm(dense.encode(g[7:8])), 1, 5)
                self.check_scores(name, q[:1], dense, g, [f"e{i}" for i in range(300)])

    def test_types_damping_and_sample(self):
        rng = np.random.default_rng(2)
        g, q = made(rng, 400, 48), made(rng, 3, 48)
        for dtype, close in (("f16", 5e-3), ("bf16", 4e-2), ("f32", CLOSE)):
            name = self.corpus([16, 32], dtype)
            self.fill(name, g)
            self.fit(name, damping=0.01, sample=100)
            chosen = [i for i in range(400) if (i + 1) // 4 > i // 4]
            stored = g if dtype == "f32" else None
            if stored is not None:
                self.check_scores(name, q, Dense([16, 32], g[chosen], 0.01), g,
                                  [f"e{i}" for i in range(400)], close=close)
            else:
                got, want = self.all_scores(name, q), Dense([16, 32], g[chosen], 0.01).scores(q, g)
                self.assertLess(max(np.abs(got[f"e{i}"] - want[:, i]).max() for i in range(400)), close)

    def test_rows_that_come_and_go(self):
        """Ingest before, during and after, deletions at every moment, then a restart."""
        rng = np.random.default_rng(3)
        blocks = [64, 32]
        g, q = made(rng, 900, 96), made(rng, 4, 96)
        name = self.corpus(blocks)
        self.fill(name, g[:600])
        gone = set(rng.choice(600, 60, replace=False).tolist())
        for i in gone:
            self.assert_status(self.client.delete(f"/v1/corpora/{name}/examples/e{i}"), 204)
        first = [i for i in range(600) if i not in gone]
        stop, fed = threading.Event(), []

        def feed():
            with_key = self.server.client()
            for k in range(600, 800, 5):
                if stop.is_set():
                    break
                examples = [{"id": f"e{i}"} for i in range(k, k + 5)]
                reply = with_key.put(f"/v1/corpora/{name}/batches/x{k}", batch(g[k:k + 5], examples))
                self.assertEqual(reply.status, 201, reply)
                fed.extend(range(k, k + 5))
            with_key.close()

        feeder = threading.Thread(target=feed)
        reply = self.client.post(f"/v1/corpora/{name}/fit")
        feeder.start()
        job = self.wait_job(self.client, reply)
        self.assertEqual(job["state"], "succeeded", job)
        stop.set()
        feeder.join()
        self.fill(name, g[800:], 800, "after")
        # What the Hessian was taken from: the live rows at the moment the job began.
        taken = job["result"]["rows"]
        dense = Dense(blocks, np.concatenate([g[first], g[600:600 + taken - len(first)]]))
        live = first + fed + list(range(800, 900))
        for i in live[::9]:
            self.assert_status(self.client.delete(f"/v1/corpora/{name}/examples/e{i}"), 204)
        live = [i for n, i in enumerate(live) if n % 9]
        self.check_scores(name, q, dense, g[live], [f"e{i}" for i in live])
        self.server.stop()
        self.server.start(create=False)
        self.client = self.server.client()
        self.check_scores(name, q, dense, g[live], [f"e{i}" for i in live])
        job = self.wait_job(self.client, self.client.post("/v1/admin/verify"))
        self.assertEqual(job["result"]["finding_count"], 0, job)
        job = self.wait_job(self.client, self.client.post(f"/v1/admin/compact?corpus={name}"))
        self.assertEqual(job["state"], "succeeded", job)
        self.check_scores(name, q, dense, g[live], [f"e{i}" for i in live])

    def test_fitted_again_as_it_grows(self):
        """A later fit is that of the gradients, though only whitened rows are stored."""
        rng = np.random.default_rng(6)
        blocks = [40, 24]
        g, q = np.concatenate([made(rng, 200, 64), made(rng, 203, 64)]), made(rng, 7, 64)
        name = self.corpus(blocks)
        self.fill(name, g[:200])
        self.fit(name)
        task = tensors([harness.matrix("gradients", g[:30])])
        path = f"/v1/corpora/{name}/tasks/t"
        self.wait_job(self.client, self.client.put(path + "?lambda=0.5", task))
        self.fill(name, g[200:], 200)
        for damping in (0.1, 0.02, 0.1):
            job = self.fit(name, damping=damping)
            dense = Dense(blocks, g, damping)
            self.check_scores(name, q, dense, g, [f"e{i}" for i in range(403)])
        mean = np.mean(np.sum(g[:, :40].astype("f8") ** 2, axis=1)) / 40
        self.assertAlmostEqual(job["result"]["blocks"][0]["mean_eigenvalue"] / mean, 1, 4)
        self.assertEqual(job["result"]["epoch"], 4)
        self.assertEqual(self.client.get(path).json()["state"], "stale")
        self.assert_problem(self.client.post(f"/v1/corpora/{name}/query?task=t", queries(q[:1]),
                                             type=harness.TENSORS), 409, "task_stale", field="task")
        self.wait_job(self.client, self.client.put(path + "?lambda=0.5", task))
        self.check_scores(name, q, Dense(blocks, g, 0.1, g[:30], 0.5), g,
                          [f"e{i}" for i in range(403)], "t")

    def test_batches_that_meet_a_fit_on_their_way(self):
        """Fits one after the other under ingest by four clients: every row ends in the same coordinates."""
        rng = np.random.default_rng(7)
        g, q = made(rng, 2000, 96), made(rng, 3, 96)
        name = self.corpus([96])
        self.fill(name, g[:400])
        stop, failed = threading.Event(), []

        def feed(first):
            client = self.server.client()
            for k in range(first, first + 400, 20):
                if stop.is_set():
                    return
                reply = client.put(f"/v1/corpora/{name}/batches/x{k}",
                                   batch(g[k:k + 20], [{"id": f"e{i}"} for i in range(k, k + 20)]))
                if reply.status != 201:
                    failed.append(reply)
            client.close()

        feeders = [threading.Thread(target=feed, args=(400 * n,)) for n in range(1, 5)]
        for f in feeders:
            f.start()
        while any(f.is_alive() for f in feeders):
            self.fit(name)
        for f in feeders:
            f.join()
        self.assertEqual(failed, [])
        self.fit(name)
        self.check_scores(name, q, Dense([96], g), g, [f"e{i}" for i in range(2000)], close=2e-5)
        page = self.client.get("/metrics").body.decode()
        again = int(re.search(r"^ascribe_encoded_again_total (\d+)", page, re.M)[1])
        print(f"batches encoded again: {again}")

    def test_a_fitted_store_on_another_processor(self):
        """A store carried to machines whose BLAS and instructions are others: rows ingested there, and queries,
        get the same bits. (OpenBLAS is told which kernels to use, which a machine may have or not.)"""
        rng = np.random.default_rng(31)
        dim, n = 300, 400
        first = self.serve()
        client, g, late = first.client(), made(rng, n, dim), made(rng, 90, dim)
        q = np.vstack([late[:7], made(rng, 60, dim)])
        for dtype in ("f32", "f16"):
            self.create(client, dtype, dim, dtype, blocks=[{"name": "a", "dim": 260}, {"name": "b", "dim": 40}])
            self.ingest(client, dtype, "b", g, [f"e{i}" for i in range(n)])
            self.wait_job(client, client.post(f"/v1/corpora/{dtype}/fit"))
        client.close()
        first.stop()
        right, seen = None, set()
        for core, simd in ((None, None), ("Nehalem", "generic"), ("Haswell", "avx2"), ("SkylakeX", "avx512"), ("Prescott", "avx2")):
            store = os.path.join(self.scratch(), "store")
            shutil.copytree(first.store, store)
            env = {k: v for k, v in (("OPENBLAS_CORETYPE", core), ("ASCRIBE_SIMD", simd)) if v}
            server = harness.Server(store, (), env).start(create=False)
            self.addCleanup(server.stop)
            client, out = server.client(), []
            for dtype in ("f32", "f16"):
                self.ingest(client, dtype, "late", late, [f"late{i}" for i in range(90)])
                for part in (q, q[:1], q[:4], q[-48:]):
                    reply = client.post(f"/v1/corpora/{dtype}/scores?dtype=f64&score=dot", queries(part))
                    out.append(self.assert_status(reply, 200).body)
            seen.add(client.get("/v1/info").json()["simd"])
            client.close()
            server.stop()
            scores = [harness.read_tensors(o)[0]["scores"][1].tobytes() for o in out]
            right = right or scores
            self.assertTrue(scores == right, f"{core} {simd} gives other bits")
        print(f"figure: {len(seen)} instruction sets, five kinds of OpenBLAS: the same bytes")

    def test_cancelled(self):
        """At any moment, and nothing is left of it."""
        rng = np.random.default_rng(8)
        g = made(rng, 1200, 700)
        name = self.corpus([400, 300])
        self.fill(name, g)
        before = self.all_scores(name, g[:2])
        kept = 0
        for k in range(12):
            where = self.client.post(f"/v1/corpora/{name}/fit").headers["Location"]
            time.sleep(0.03 * k)
            self.assert_status(self.client.delete(where), 202)
            job = wait_until(lambda: (lambda j: j["state"] not in ("queued", "running") and j)(
                self.client.get(where).json()), "the end")
            if job["state"] == "succeeded":
                break
            self.assertEqual((job["state"], job["error"]["code"]), ("cancelled", "cancelled"))
            kept += 1
            self.assertIs(self.client.get(f"/v1/corpora/{name}").json()["whitened"], False)
            after = self.all_scores(name, g[:2])
            self.assertTrue(all(np.array_equal(before[i], after[i]) for i in before))
        self.assertGreater(kept, 0)

    def test_dropped_meanwhile(self):
        rng = np.random.default_rng(9)
        name = self.corpus([500])
        self.fill(name, made(rng, 1500, 500))
        reply = self.client.post(f"/v1/corpora/{name}/fit")
        self.assert_status(self.client.delete(f"/v1/corpora/{name}"), 204)
        job = self.wait_job(self.client, reply)
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "unknown_corpus"))
        self.create(self.client, name, 500)
        self.assertIs(self.client.get(f"/v1/corpora/{name}").json()["whitened"], False)

    def test_offline_and_damage(self):
        """Rows ingested by the offline verb are whitened too; a damaged whitening is named, not used."""
        rng = np.random.default_rng(10)
        g, q = made(rng, 120, 40), made(rng, 2, 40)
        server = self.serve()
        mine, self.client = self.client, server.client()
        self.create(self.client, "c", 40)
        self.fill("c", g[:100])
        self.fit("c")
        server.stop()
        path = os.path.join(self.scratch(), "more.safetensors")
        with open(path, "wb") as f:
            f.write(batch(g[100:], [{"id": f"e{i}"} for i in range(100, 120)]))
        harness.offline("ingest", "--store", server.store, "--corpus", "c", path, check=0)
        server.start(create=False)
        self.client = server.client()
        self.check_scores("c", q, Dense([40], g[:100]), g, [f"e{i}" for i in range(120)])
        server.stop()
        directory = os.path.join(server.store, "artifacts")
        file, = os.listdir(directory)
        with open(os.path.join(directory, file), "r+b") as f:
            f.seek(3000)
            byte = f.read(1)[0]
            f.seek(3000)
            f.write(bytes([byte ^ 1]))
        server.start(create=False)
        self.client = server.client()
        problem = self.assert_problem(self.client.post("/v1/corpora/c/query", queries(q),
                                                       type=harness.TENSORS), 500, "corrupt")
        self.assertIn("artifact " + file, problem["detail"])
        more = batch(g[:1], [{"id": "late"}])
        self.assert_problem(self.client.put("/v1/corpora/c/batches/late", more), 500, "corrupt")
        job = self.wait_job(self.client, self.client.post("/v1/admin/verify"))
        self.assertEqual(job["result"]["finding_count"], 1)
        self.assertIn(file, job["result"]["findings"][0])
        self.client = mine

    def test_backup_carries_the_fit(self):
        rng = np.random.default_rng(4)
        g, q = made(rng, 50, 16), made(rng, 2, 16)
        name = self.corpus([16])
        self.fill(name, g)
        self.fit(name)
        job = self.wait_job(self.client, self.client.post("/v1/admin/backup"))
        path = os.path.join(self.server.store, "backups", job["result"]["name"])
        other = harness.Server(path)
        other.start(create=False)
        self.addCleanup(other.stop)
        mine, self.client = self.client, other.client(self.server.key)
        self.check_scores(name, q, Dense([16], g), g, [f"e{i}" for i in range(50)])
        self.client = mine

    def test_refused(self):
        name = self.corpus([8])
        fit = f"/v1/corpora/{name}/fit"
        self.assert_problem(self.client.post(fit), 409, "corpus_empty")
        for value in ("-1", "nan", "inf", "x", "", "0x1", "1e999"):
            self.assert_problem(self.client.post(f"{fit}?damping={value}"), 400, "invalid_request",
                                field="damping")
        self.assert_problem(self.client.post(f"{fit}?sample=0"), 400, "invalid_request", field="sample")
        self.assertFalse(self.client.get(f"/v1/corpora/{name}").json()["whitened"])
        self.assertEqual([j for j in self.client.get("/v1/jobs").json()["jobs"] if j["state"] in ("queued", "running")], [])
        self.assert_problem(self.client.post(f"{fit}?speed=1"), 400, "invalid_request")
        self.assert_problem(self.client.post("/v1/corpora/none/fit"), 404, "unknown_corpus")
        done = self.corpus([8], encoded=True)
        self.fill(done, np.eye(8, dtype="<f4"))
        self.assert_problem(self.client.post(f"/v1/corpora/{done}/fit"), 409, "corpus_encoded")
        wide = self.corpus([32767])
        self.assert_problem(self.client.post(f"/v1/corpora/{wide}/fit"), 400, "invalid_request",
                            limit=32766)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
        large = self.corpus([32766])
        reply = self.client.post(f"/v1/corpora/{large}/fit")
        if 5 * 32766 ** 2 * 8 > memory // 2:
            self.assert_problem(reply, 413, "too_large", limit=memory // 2)
        else:
            self.assert_problem(reply, 409, "corpus_empty")

    def test_a_hessian_that_cannot_be_inverted_changes_nothing(self):
        name = self.corpus([8])
        g = np.zeros((20, 8), "<f4")
        g[:, 0] = np.arange(1, 21)
        self.fill(name, g)
        before = self.all_scores(name, g[:1])
        job = self.wait_job(self.client, self.client.post(f"/v1/corpora/{name}/fit?damping=0"))
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "invalid_request"))
        self.assertIs(self.client.get(f"/v1/corpora/{name}").json()["whitened"], False)
        after = self.all_scores(name, g[:1])
        self.assertTrue(all(np.array_equal(before[i], after[i]) for i in before))
        self.assertEqual(len(os.listdir(os.path.join(self.server.store, "artifacts"))) if
                         os.path.isdir(os.path.join(self.server.store, "artifacts")) else 0,
                         sum(c["whitened"] for c in self.client.get("/v1/corpora").json()["corpora"]))


class TestTasks(FitCase):
    def put(self, name, task, evaluation, **options):
        query = "&".join(f"{k}={v}" for k, v in options.items())
        body = tensors([harness.matrix("gradients", evaluation)])
        job = self.wait_job(self.client, self.client.put(f"/v1/corpora/{name}/tasks/{task}?{query}",
                                                         body), 120)
        self.assertEqual(job["state"], "succeeded", job)
        return job["result"]

    def test_scores_are_trackstar(self):
        """Both sides whitened by the mixed Hessian, normalised after; several tasks over one corpus."""
        rng = np.random.default_rng(11)
        for blocks in ([32], [16, 40], [5, 1, 33, 17]):
            with self.subTest(blocks=blocks):
                dim = sum(blocks)
                g, q = made(rng, 300, dim), made(rng, 6, dim)
                evaluations = {"few": made(rng, 4, dim), "many": made(rng, 120, dim)}
                name = self.corpus(blocks)
                self.fill(name, g)
                self.fit(name)
                ids = [f"e{i}" for i in range(300)]
                for task, evaluation in evaluations.items():
                    for lam in (0.0, 0.5, 0.95):
                        made_task = self.put(name, task, evaluation, **{"lambda": lam})
                        self.assertEqual((made_task["lambda"], made_task["rows"]),
                                         (lam, len(evaluation)))
                        dense = Dense(blocks, g, evaluation=evaluation, lam=lam)
                        self.check_scores(name, q, dense, g, ids, task)
                listed = self.client.get(f"/v1/corpora/{name}/tasks").json()["tasks"]
                self.assertEqual([(t["name"], t["state"]) for t in listed],
                                 [("few", "ready"), ("many", "ready")])
                self.check_scores(name, q, Dense(blocks, g), g, ids)  # the corpus itself is as it was

    def test_many_queries_at_once(self):
        """More than are turned together: each has the bits it has alone."""
        rng = np.random.default_rng(12)
        blocks = [5, 40, 17]
        q = made(rng, 70, sum(blocks))
        name = self.corpus(blocks)
        self.fill(name, made(rng, 200, sum(blocks)))
        self.fit(name)
        self.put(name, "t", made(rng, 30, sum(blocks)), **{"lambda": 0.9})

        def asked(some):
            reply = self.client.post(f"/v1/corpora/{name}/query?k=9&task=t", queries(some),
                                     type=harness.TENSORS)
            return [[(h["id"], h["score"]) for h in r["proponents"]]
                    for r in self.assert_status(reply, 200).json()["results"]]

        alone = [asked(q[n:n + 1])[0] for n in range(70)]
        for count in (2, 31, 32, 33, 64, 70):
            self.assertEqual(asked(q[:count]), alone[:count])

    def test_lambda_by_the_rule(self):
        rng = np.random.default_rng(12)
        blocks, dim = [30, 50], 80
        g, evaluation = made(rng, 300, dim), made(rng, 200, dim)
        name = self.corpus(blocks)
        self.fill(name, g)
        self.fit(name)
        task = self.put(name, "t", evaluation, downweight=8000)
        k = round(8000 * dim / 65536)

        def spectrum(x):
            x, parts, at = x.astype("f8"), [], 0
            for b in blocks:
                parts.append(np.linalg.eigvalsh(x[:, at:at + b].T @ x[:, at:at + b] / len(x)))
                at += b
            return np.sort(np.concatenate(parts))[::-1]

        train, own = spectrum(g), spectrum(evaluation)
        want = train[k] / (own[k] + train[k])
        self.assertEqual(task["k"], k)
        self.assertAlmostEqual(task["lambda"], want, 6)
        self.assertLess(abs(task["spectra"]["train"][0] / train[0] - 1), 1e-5)
        self.assertLess(abs(task["spectra"]["eval"][0] / own[0] - 1), 1e-5)
        self.assertEqual(task["spectra"]["place"][-1], dim - 1)
        dense = Dense(blocks, g, evaluation=evaluation, lam=want)
        q = made(rng, 3, dim)
        self.check_scores(name, q, dense, g, [f"e{i}" for i in range(300)], "t")
        again = self.client.get(f"/v1/corpora/{name}/tasks/t").json()
        self.assertEqual(again["lambda"], task["lambda"])

    def test_rows_that_come_and_go(self):
        """Denominators of new chunks, after deletions, compact and a restart; written down by a job."""
        rng = np.random.default_rng(13)
        blocks = [24, 40]
        g, q, evaluation = made(rng, 500, 64), made(rng, 4, 64), made(rng, 30, 64)
        name = self.corpus(blocks)
        self.fill(name, g[:200])
        self.fit(name)
        self.put(name, "t", evaluation, **{"lambda": 0.9})
        dense = Dense(blocks, g[:200], evaluation=evaluation, lam=0.9)
        for first in range(200, 500, 100):
            self.fill(name, g[first:first + 100], first)
            self.check_scores(name, q, dense, g[:first + 100], [f"e{i}" for i in range(first + 100)], "t")
        def written():
            jobs = [j for j in self.client.get("/v1/jobs").json()["jobs"] if j["kind"] == "denominators"]
            return jobs and all(j["state"] == "succeeded" for j in jobs) and jobs
        wait_until(written, "the denominators to be written anew")
        live = [i for i in range(500) if i % 5]
        for i in range(0, 500, 5):
            self.assert_status(self.client.delete(f"/v1/corpora/{name}/examples/e{i}"), 204)
        ids = [f"e{i}" for i in live]
        self.check_scores(name, q, dense, g[live], ids, "t")
        self.wait_job(self.client, self.client.post(f"/v1/admin/compact?corpus={name}"))
        self.check_scores(name, q, dense, g[live], ids, "t")
        self.server.stop()
        self.server.start(create=False)
        self.client = self.server.client()
        self.check_scores(name, q, dense, g[live], ids, "t")
        job = self.wait_job(self.client, self.client.post("/v1/admin/verify"))
        self.assertEqual(job["result"]["finding_count"], 0, job)
        some = self.client.post(f"/v1/corpora/{name}/query?task=t&k=500&filter=" +
                                harness.quote('id ^= "e1"'), queries(q[:1]), type=harness.TENSORS)
        kept = [i for i in live if str(i).startswith("1")]
        got = self.all_scores(name, q[:1], "t")
        self.assertEqual([(h["id"], h["score"]) for h in
                          self.assert_status(some, 200).json()["results"][0]["proponents"]],
                         sorted(((f"e{i}", got[f"e{i}"][0]) for i in kept), key=lambda x: -x[1]))

    def refused_gradients(self, name, path):
        """Of each the first bad row is named; neither a task nor a job comes of it."""
        ones = np.ones((3, 8), "<f4")
        jobs = self.client.get("/v1/jobs").json()
        cases = [(np.zeros((0, 8), "<f4"), 400, "invalid_request", None), (np.ones((2, 9), "<f4"), 422, "wrong_dimension", None),
                 (np.ones((2, 7), "<f4"), 422, "wrong_dimension", None)]
        for value, code in ((0, "zero_gradient"), (np.nan, "not_finite"), (np.inf, "not_finite"), (-np.inf, "not_finite")):
            bad = ones.copy()
            bad[1:] = value
            cases.append((bad, 422, code, 1))
            if value:
                bad = ones.copy()
                bad[2, 7] = value  # the last element of all
                cases.append((bad, 422, code, 2))
        for bad, status, code, row in cases:
            reply = self.client.put(path + "?lambda=0.5", tensors([harness.matrix("gradients", bad)]))
            self.assert_problem(reply, status, code, field="gradients", index=row)
        self.assertEqual(self.client.get("/v1/jobs").json(), jobs)

    def test_refused(self):
        rng = np.random.default_rng(14)
        name = self.corpus([8])
        g = made(rng, 30, 8)
        self.fill(name, g)
        path = f"/v1/corpora/{name}/tasks/t"
        body = tensors([harness.matrix("gradients", g[:4])])
        self.assert_problem(self.client.put(path, body), 409, "not_fitted")
        self.fit(name)
        for value in ("1", "-0.1", "nan", "1.5", "x", "", "inf", "-inf", "1e999", "1.0000000001", "-1e-300"):
            self.assert_problem(self.client.put(f"{path}?lambda={value}", body), 400, "invalid_request",
                                field="lambda")
        self.assert_problem(self.client.put(f"{path}?downweight=0", body), 400, "invalid_request",
                            field="downweight")
        self.assert_problem(self.client.put(f"{path}?downweight=3&lambda=0.5", body), 400,
                            "invalid_request", field="downweight")
        self.refused_gradients(name, path)
        self.assert_problem(self.client.put("/v1/corpora/none/tasks/t", body), 404, "unknown_corpus")
        self.assert_problem(self.client.get(path), 404, "unknown_task")
        self.assert_problem(self.client.delete(path), 404, "unknown_task")
        for verb in ("query", "scores"):
            self.assert_problem(self.client.post(f"/v1/corpora/{name}/{verb}?task=t", queries(g[:1]),
                                                 type=harness.TENSORS), 404, "unknown_task", field="task")
        self.assertEqual(self.client.get(f"/v1/corpora/{name}/tasks").json(), {"tasks": []})
        self.put(name, "t", g[:4], **{"lambda": 0.3})
        was, scores = self.client.get(path).json(), self.client.post(f"/v1/corpora/{name}/query?task=t", queries(g[:1]))
        self.refused_gradients(name, path)  # what stands under the name stays
        self.assertEqual(self.client.get(path).json(), was)
        again = self.client.post(f"/v1/corpora/{name}/query?task=t", queries(g[:1]))
        self.assertEqual(again.json()["results"], scores.json()["results"])
        encoded = self.corpus([8], encoded=True)
        self.fill(encoded, np.eye(8, dtype="<f4"))
        self.assert_problem(self.client.put(f"/v1/corpora/{encoded}/tasks/t", body), 409, "corpus_encoded")
        self.assert_status(self.client.delete(path), 204)
        self.assertEqual(self.client.get(f"/v1/corpora/{name}/tasks").json(), {"tasks": []})


class TestCommand(FitCase):
    def ascribe(self, *args, status=0):
        done = subprocess.run([harness.program("ascribe"), "--server", self.server.url, "--store",
                               self.server.store, "--json", *args], capture_output=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return [json.loads(line) for line in done.stdout.decode().splitlines()]

    def test_fit_and_tasks_by_the_command(self):
        rng = np.random.default_rng(21)
        g, q, evaluation = made(rng, 100, 24), made(rng, 2, 24), made(rng, 9, 24)
        name, files = self.corpus([24]), self.base
        self.fill(name, g)
        np.save(f"{files}/q.npy", q)
        np.save(f"{files}/eval.npy", evaluation)
        self.ascribe("task", "put", name, "t", f"{files}/eval.npy", status=2)
        job, = self.ascribe("fit", name, "--damping", "0.2")
        self.assertEqual((job["state"], job["result"]["damping"]), ("succeeded", 0.2))
        job, = self.ascribe("task", "put", name, "t", f"{files}/eval.npy", "--lambda", "0.8")
        self.assertEqual((job["state"], job["result"]["lambda"]), ("succeeded", 0.8))
        self.assertEqual([t["name"] for t in self.ascribe("task", "list", name)[0]["tasks"]], ["t"])
        self.assertEqual(self.ascribe("task", "show", name, "t")[0]["rows"], 9)
        dense = Dense([24], g, 0.2, evaluation, 0.8)
        answer, = self.ascribe("query", name, f"{files}/q.npy", "--task", "t", "-k", "3")
        want = dense.scores(q, g)
        for n, result in enumerate(answer["results"]):
            self.assertEqual(result["proponents"][0]["id"], f"e{np.argmax(want[n])}")
        self.ascribe("scores", name, f"{files}/q.npy", "--task", "t", "--out", f"{files}/s.npy", "--f64")
        self.assertLess(np.abs(np.load(f"{files}/s.npy") - want).max(), CLOSE)
        self.ascribe("task", "delete", name, "t")
        self.ascribe("query", name, f"{files}/q.npy", "--task", "t", status=2)
        for bad in (["fit", name, "--damping", "x"], ["task", "put", name, "t"],
                    ["task", "put", name, "t", f"{files}/eval.npy", "--lambda", "1"]):
            self.ascribe(*bad, status=1)


class TestKilled(harness.Case):
    """kill -9 at any moment leaves what was, or what was to be, whole."""
    kills = 20

    def setUp(self):
        self.rng = np.random.default_rng(5)
        self.blocks = [384, 128]
        self.g, self.q = made(self.rng, 1500, 512), made(self.rng, 2, 512)
        self.ids = [f"e{i}" for i in range(1500)]
        self.server = self.serve()
        self.client = self.server.client()

    def fill(self):
        self.create(self.client, "c", 512, blocks=[{"name": f"b{i}", "dim": d}
                                                   for i, d in enumerate(self.blocks)])
        for k in range(0, 1500, 500):
            self.ingest(self.client, "c", f"b{k}", self.g[k:k + 500],
                        [{"id": i} for i in self.ids[k:k + 500]])

    def job(self, reply):
        """Seconds that a job takes which nothing disturbs."""
        asked = time.monotonic()
        self.assertEqual(self.wait_job(self.client, reply, 120)["state"], "succeeded")
        return time.monotonic() - asked

    def kill_after(self, seconds):
        time.sleep(seconds)
        self.server.kill()
        self.server.start(create=False)
        self.client = self.server.client()

    def check(self, want, files, more=""):
        reply = self.client.post("/v1/corpora/c/scores?dtype=f64" + more, queries(self.q),
                                 type=harness.TENSORS)
        found, _ = read_tensors(self.assert_status(reply, 200).body)
        self.assertEqual(found["ids"][1].tobytes().decode().split("\n")[:-1], self.ids)
        self.assertLess(np.abs(found["scores"][1] - want).max(), CLOSE)
        job = self.wait_job(self.client, self.client.post("/v1/admin/verify"))
        self.assertEqual(job["result"]["finding_count"], 0, job)
        path = os.path.join(self.server.store, "artifacts")
        self.assertEqual(len(os.listdir(path)) if os.path.isdir(path) else 0, files)

    def test_fit(self):
        unit = lambda x: x / np.linalg.norm(x.astype("f8"), axis=1, keepdims=True)
        want = {False: unit(self.q) @ unit(self.g).T,
                True: Dense(self.blocks, self.g).scores(self.q, self.g)}
        outcomes = {False: 0, True: 0}
        self.fill()
        span = 1.2 * self.job(self.client.post("/v1/corpora/c/fit"))
        for kill in range(self.kills):
            if self.client.get("/v1/corpora/c").json()["whitened"]:
                self.assert_status(self.client.delete("/v1/corpora/c"), 204)
                self.fill()
            self.assert_status(self.client.post("/v1/corpora/c/fit"), 202)
            self.kill_after(span * (kill + self.rng.random()) / self.kills)
            after = self.client.get("/v1/corpora/c").json()["whitened"]
            self.check(want[after], int(after))
            outcomes[after] += 1
        self.assertGreater(outcomes[False], 0, "no kill came before the swap: the span is too long")
        print(f"killed fits: {outcomes[False]} left the old rows, {outcomes[True]} the new")

    def test_task(self):
        evaluation = made(self.rng, 300, 512)
        body = tensors([harness.matrix("gradients", evaluation)])
        want = {lam: Dense(self.blocks, self.g, evaluation=evaluation, lam=lam).scores(self.q, self.g)
                for lam in (0.3, 0.9)}
        path, was, kept = "/v1/corpora/c/tasks/t", 0.3, 0
        self.fill()
        self.job(self.client.post("/v1/corpora/c/fit"))
        span = 1.2 * self.job(self.client.put(path + "?lambda=0.3", body))
        for kill in range(self.kills):
            wish = 1.2 - was
            self.assert_status(self.client.put(f"{path}?lambda={wish:.1f}", body), 202)
            self.kill_after(span * (kill + self.rng.random()) / self.kills)
            task = self.client.get(path).json()
            self.assertEqual(task["state"], "ready")
            self.assertIn(task["lambda"], want)
            kept += task["lambda"] == was
            was = task["lambda"]
            self.check(want[was], 3, "&task=t")
        self.assertGreater(kept, 0, "no kill came before the end: the span is too long")
        print(f"killed tasks: {kept} of {self.kills} left the task as it was")


if __name__ == "__main__":
    harness.main()
