"""test_shared.py - requests that share scans: 64 clients, what each gets is what it gets alone, to the bit.

Every request of a fixed list is asked once by one client; then many clients ask the same ones at random,
all engines, lengths of lists, filters, tasks and scores mixed, while others leave half way or come too
late. An answer is right, or refused as the protocol says; nobody's leaving costs another anything.
"""
import random
import socket
import threading
import time

import numpy as np

import harness as h

DIM, ROWS, CLIENTS = 256, 4000, 64
SECONDS = 3 if h.FLAVOUR == "tsan" else 5


def fill(test, client):
    """A corpus of codes, small chunks, deletions, fitted, with two tasks."""
    r = np.random.default_rng(11)
    test.create(client, "c", DIM)
    x = r.standard_normal((ROWS, DIM)) * 10.0 ** r.uniform(-2, 2, (ROWS, 1))
    x[1::50] = x[::50]  # ties
    for at in range(0, ROWS, 500):
        test.ingest(client, "c", f"b{at}", x[at:at + 500],
                    [{"id": str(i), "text": f"text {i}", "meta": {"n": i % 7}} for i in range(at, at + 500)])
    test.wait_job(client, client.post("/v1/corpora/c/fit"))
    for i in range(5, ROWS, 37):
        test.assert_status(client.delete(f"/v1/corpora/c/examples/{i}"), 204)
    for task in ("s", "t"):
        body = h.tensors([h.matrix("gradients", r.standard_normal((12, DIM)))])
        test.wait_job(client, client.put(f"/v1/corpora/c/tasks/{task}?lambda=0.4", body))
    return x


def requests(x):
    """[(path, body)]: every engine, precision, score, task and filter, short lists and long."""
    r, rng, out = random.Random(5), np.random.default_rng(6), []
    for n in range(120):
        count = r.choice((1, 1, 1, 2, 24))
        q = rng.standard_normal((count, DIM)) + (x[r.randrange(ROWS)] if n % 3 == 0 else 0)
        words = [f"k={r.choice((0, 1, 5, 10, 10, 100, 700))}", f"opponents={r.choice((0, 0, 3, 10))}", f"text={n % 2}"]
        engine = r.choice(("auto", "auto", "tiered", "tiered&precision=probabilistic", "scan", "flat"))
        words.append("engine=" + engine)
        words += [""] * 3 + ["task=s", "task=t"][n % 9:][:1] + ["filter=" + h.quote("meta.n < 3")] * (n % 5 == 0)
        words += ["score=dot"] * (n % 4 == 0 and engine != "flat") + ["percentile=1"] * (n % 17 == 0)
        out.append(("/v1/corpora/c/query?" + "&".join(w for w in words if w), h.queries(q)))
    return out


class Shared(h.Case):
    def setUp(self):
        self.faults, self.shared, self.counts = [], [], {}

    def ask_all(self, client, asks):
        """What each is answered alone."""
        out = []
        for path, body in asks:
            got = self.assert_status(client.post(path, body), 200).json()
            self.assertEqual(got["shared"]["requests"], 1)
            out.append(got["results"])
        return out

    def crowd(self, server, asks, right, refused=()):
        """CLIENTS threads for SECONDS; the answers that were right, counted."""
        end = time.monotonic() + SECONDS

        def run(seed):
            client, r = server.client(), random.Random(seed)
            try:
                while time.monotonic() < end and not self.faults:
                    n = r.randrange(len(asks))
                    reply = client.post(*asks[n])
                    key = reply.status if reply.status != 200 else "right"
                    self.counts[key] = self.counts.get(key, 0) + 1
                    if reply.status != 200:
                        assert reply.status in refused, f"{reply.status} {reply.body[:200]}"
                        continue
                    got = reply.json()
                    assert got["results"] == right[n], f"{asks[n][0]} answers otherwise in company of {got['shared']}"
                    self.shared.append(got["shared"]["requests"])
            except Exception as fault:  # noqa: BLE001 - a thread must not die silently
                self.faults.append(repr(fault)[:400])
            client.close()
        return [threading.Thread(target=run, args=(i,)) for i in range(CLIENTS)]

    def leavers(self, server, asks, count):
        """Clients that send a whole request and go, at once or a moment later."""
        end = time.monotonic() + SECONDS

        def run(seed):
            r = random.Random(seed)
            while time.monotonic() < end:
                path, body = r.choice(asks)
                head = (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
                        f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n").encode()
                with socket.create_connection(server.address, timeout=10 * h.SLOW) as s:
                    if r.random() < 0.5:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    s.sendall(head + body)
                    time.sleep(r.choice((0, 0.001, 0.02)))
        return [threading.Thread(target=run, args=(900 + i,)) for i in range(count)]

    def run_all(self, threads):
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertFalse(self.faults, self.faults[:2])

    def numbers(self, client):
        page = client.get("/metrics").body.decode().splitlines()
        return {row.rsplit(" ", 1)[0]: float(row.rsplit(" ", 1)[1]) for row in page if not row.startswith("#")}

    def test_a_crowd_is_answered_as_one_client_is(self):
        server = self.serve(["--chunk-bytes", "128K"])
        client = server.client()
        asks = requests(fill(self, client))
        right = self.ask_all(client, asks)
        before = self.numbers(client)
        self.run_all(self.crowd(server, asks, right))
        after = self.numbers(client)
        self.assertGreater(max(self.shared), 1, "nobody ever shared a scan")
        scans = after["ascribe_scan_requests_count"] - before["ascribe_scan_requests_count"]
        answered = after["ascribe_scan_requests_sum"] - before["ascribe_scan_requests_sum"]
        self.assertEqual(answered, self.counts["right"])
        self.assertLess(scans, answered)
        print(f"figure: {CLIENTS} clients, {self.counts['right']} answers as alone, {answered / scans:.1f} requests a scan, "
              f"at most {max(self.shared)}")

    def test_a_storm_of_leavers_costs_nobody_an_answer(self):
        server = self.serve(["--chunk-bytes", "128K"])
        client = server.client()
        asks = requests(fill(self, client))
        right = self.ask_all(client, asks)
        self.run_all(self.crowd(server, asks, right, refused=(503,)) + self.leavers(server, asks, 16))
        h.wait_until(lambda: self.numbers(client)["ascribe_parked"] == 0, "parked requests to end")
        self.assertGreater(self.numbers(client)["ascribe_cancelled_total"], 0)
        self.assertEqual(self.ask_all(client, asks[:20]), right[:20])
        print(f"figure: with 16 leavers beside them, {self.counts}")

    def test_deadlines_are_each_ones_own(self):
        server = self.serve(["--chunk-bytes", "128K"])
        client = server.client()
        asks = requests(fill(self, client))
        right = self.ask_all(client, asks)
        client.close()
        server.stop()
        late = self.serve(["--deadline-ms", str(int(25 * h.SLOW))], store=server.store)
        self.run_all(self.crowd(late, asks, right, refused=(503, 504)))
        print(f"figure: with a deadline of {int(25 * h.SLOW)} ms, {self.counts}")

    def test_new_rows_are_seen_while_scans_are_shared(self):
        """An answer never comes from a view older than its request."""
        server = self.serve(["--chunk-bytes", "128K"])
        client = server.client()
        asks = requests(fill(self, client))
        end, r = time.monotonic() + SECONDS, np.random.default_rng(3)

        def noise(seed):
            other, pick = server.client(), random.Random(seed)
            while time.monotonic() < end:
                other.post(*pick.choice(asks))
            other.close()

        def writer():
            own, n = server.client(), 0
            try:
                while time.monotonic() < end:
                    n += 1
                    x = r.standard_normal((1, DIM))
                    self.ingest(own, "c", f"new{n}", x, [f"new{n}"])
                    got = own.post("/v1/corpora/c/query?k=1&engine=tiered", h.queries(x)).json()
                    (hit,) = got["results"][0]["proponents"]
                    assert hit["id"] == f"new{n}", hit
                    assert abs(hit["score"] - 1) < 1e-6, hit
            except Exception as fault:  # noqa: BLE001
                self.faults.append(repr(fault)[:400])
            own.close()
        self.run_all([threading.Thread(target=noise, args=(i,)) for i in range(24)] + [threading.Thread(target=writer)])


if __name__ == "__main__":
    h.main()
