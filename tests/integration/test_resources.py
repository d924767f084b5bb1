"""test_resources.py - a server that is given too little of something: descriptors, threads, processor
time; a clock that jumps; a store that is another's already. What cannot work is said at the start; what
was promised goes on."""
import os
import resource
import signal
import socket
import subprocess
import threading
import time
import unittest

import numpy as np

import harness as h

DIM = 48
NOBODY = 54321  # no user of this machine: the kernel counts the threads of root against no limit


def rows(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype("<f4")


class Starved(h.Server):
    """A server whose process is changed before exec: by `prepare`, in the child."""

    def __init__(self, store, prepare, args=(), env=None):
        super().__init__(store, args, env)
        self.prepare = prepare

    def start(self, create=True, timeout=30):
        popen = subprocess.Popen
        try:
            subprocess.Popen = lambda *a, **kw: popen(*a, preexec_fn=self.prepare, **kw)
            return super().start(create, timeout)
        finally:
            subprocess.Popen = popen


class Resources(h.Case):
    def fill(self, server, n=60):
        self.client = server.client()
        self.addCleanup(self.client.close)
        oracle = h.Oracle(DIM)
        self.create(self.client, "c", DIM)
        self.ingest(self.client, "c", "b", rows(n), [f"e{i}" for i in range(n)])
        oracle.ingest(rows(n), [f"e{i}" for i in range(n)])
        return oracle

    def assert_answers(self, client, oracle, seed=7):
        q = rows(1, seed)
        reply = self.assert_status(client.post("/v1/corpora/c/query?k=5", h.queries(q)), 200).json()
        got = [(x["id"], x["score"], x["sequence"]) for x in reply["results"][0]["proponents"]]
        self.assertEqual(got, oracle.top(q[0], 5)[0])

    # ---- descriptors -----------------------------------------------------------------------------

    def test_descriptors_run_out(self):
        limit = 160
        server = Starved(os.path.join(self.scratch(), "store"),
                         lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        server.start()
        self.addCleanup(server.stop)
        self.assertTrue(any("descriptors" in line and "connections" in line for line in server.log),
                        server.tail())
        oracle = self.fill(server)
        before = server.rss_kib()[1]
        crowd = []
        try:
            for _ in range(400):
                s = socket.create_connection(server.address, timeout=10 * h.SLOW)
                crowd.append(s)
            # More of them than there are descriptors: who has a key still asks, stores, and makes new shards.
            for b in range(3):
                self.assert_answers(self.client, oracle)
                x = rows(10, 100 + b)
                self.create(self.client, f"new{b}", DIM)
                self.ingest(self.client, f"new{b}", "b", x, [f"n{i}" for i in range(10)])
                fresh = server.client()
                self.assert_status(fresh.get("/healthz"), 200)
                fresh.close()
            self.assertLess(server.rss_kib()[1], limit)
        finally:
            for s in crowd:
                s.close()
        # three shards and the ledger's share more than before, and nothing of the crowd
        h.wait_until(lambda: server.rss_kib()[1] <= before + 3 * 6, "the crowd's descriptors", 10)
        self.assert_answers(self.client, oracle)

    def test_too_few_descriptors_to_serve_anybody(self):
        store = os.path.join(self.scratch(), "store")
        h.Server(store).start().stop()
        done = subprocess.run(
            [h.program("ascribed"), "--store", store, "--listen", "127.0.0.1:0"], capture_output=True,
            text=True, timeout=30 * h.SLOW, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("24 open files are allowed", done.stderr)

    # ---- threads ---------------------------------------------------------------------------------

    @unittest.skipIf(os.geteuid(), "needs root, to become a user with a limit of its own")
    @unittest.skipIf(h.FLAVOUR, "the sanitizer's own threads count")
    def test_threads_that_cannot_be_made(self):
        base = self.scratch()
        os.chmod(base, 0o755)
        home = os.path.join(base, "home")
        os.mkdir(home)
        os.chown(home, NOBODY, NOBODY)
        program = os.path.join(base, "ascribed")  # where that user may read it
        with open(h.program("ascribed"), "rb") as f, open(program, "wb") as g:
            g.write(f.read())
        os.chmod(program, 0o755)

        def start(threads, store):
            def become():
                resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads))
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            p = subprocess.Popen([program, "--store", store, "--create", "--listen", "127.0.0.1:0"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, preexec_fn=become, cwd="/")
            ready, text = False, b""
            end = time.monotonic() + 30 * h.SLOW
            for line in p.stderr:
                text += line
                ready = b"ready listen=" in line
                if ready or time.monotonic() > end:
                    break
            if ready:
                p.send_signal(signal.SIGTERM)
            text += p.stderr.read()
            p.stderr.close()
            return p.wait(30 * h.SLOW), ready, text.decode("utf-8", "replace")

        refused, served = 0, 0
        for threads in range(1, 24):
            code, ready, text = start(threads, os.path.join(home, f"s{threads}"))
            if ready:
                self.assertEqual(code, 0, f"{threads} threads: {text}")
                served += 1
            else:
                # before main, OpenBLAS speaks for itself, and ends the process by SIGINT
                self.assertIn(code, (1, -signal.SIGINT), f"{threads} threads: {text}")
                self.assertRegex(text, "ascribed: cannot start thread|blas_thread_init", f"{threads} threads")
                refused += 1
        self.assertGreater(refused, 0)
        self.assertGreater(served, 0)

    # ---- time ------------------------------------------------------------------------------------

    FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

    @unittest.skipUnless(os.path.exists(FAKETIME), "no faketime on this machine")
    @unittest.skipIf(h.FLAVOUR, "a sanitizer must be loaded first")
    def test_clock_jumps(self):
        clock = os.path.join(self.scratch(), "clock")

        def jump(to):
            with open(clock + ".part", "w", encoding="ascii") as f:
                f.write(to + "\n")
            os.rename(clock + ".part", clock)

        jump("+0")
        server = self.serve(["--no-landlock"],  # or the file with the time could not be read
                            {"LD_PRELOAD": self.FAKETIME, "FAKETIME_TIMESTAMP_FILE": clock,
                             "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"})
        oracle = self.fill(server)
        slow = socket.create_connection(server.address, timeout=30 * h.SLOW)
        self.addCleanup(slow.close)
        slow.sendall(b"GET /healthz HT")
        half = self.client
        n = 60
        for turn, (to, year) in enumerate((("@2036-03-01 00:00:00", "2036"), ("@1970-01-02 00:00:00", "1970"),
                                           ("@2038-01-19 03:14:07", "2038"), ("@2106-02-07 06:28:16", "2106"),
                                           ("@2016-02-29 12:00:00", "2016"), ("+0", time.strftime("%Y")))):
            jump(to)
            h.wait_until(lambda year=year: year in half.get("/healthz").headers["Date"], f"a Date of {year}")
            self.assert_answers(half, oracle)  # the same connection: no timer looked at the clock
            x = rows(5, 200 + turn)
            names = [f"t{turn}-{i}" for i in range(5)]
            got = self.ingest(half, "c", f"t{turn}", x, names)
            self.assertEqual(got["examples"], 5)
            oracle.ingest(x, names)  # sequences go on from where they were
            n += 5
            self.assert_answers(half, oracle, seed=turn)
        slow.sendall(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")  # nor did one cut this head
        self.assertIn(b" 200 ", slow.recv(4096))
        self.assertEqual(self.client.get("/v1/corpora/c").json()["examples"], n)

    def test_stood_still(self):
        server = self.serve()
        oracle = self.fill(server)
        wrong, right, halt = [], [], threading.Event()

        def ask():
            client = server.client()
            q = rows(1, 9)
            want = [x[0] for x in oracle.top(q[0], 5)[0]]
            while not halt.is_set():
                try:
                    reply = client.post("/v1/corpora/c/query?k=5", h.queries(q))
                    ids = [x["id"] for x in reply.json()["results"][0]["proponents"]]
                    (right if reply.status == 200 and ids == want else wrong).append(repr(reply))
                except (OSError, ValueError, KeyError) as e:
                    wrong.append(repr(e))
            client.close()

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for t in askers:
            t.start()
        for _ in range(3):
            time.sleep(0.2)
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            server.process.send_signal(signal.SIGCONT)
            at = len(right)
            h.wait_until(lambda at=at: len(right) > at + 8, "answers after it went on")
        halt.set()
        for t in askers:
            t.join()
        self.assertEqual(wrong, [])
        self.assert_answers(self.client, oracle)

    # ---- one store, one server -------------------------------------------------------------------

    def test_a_store_that_is_served_already(self):
        server = self.serve()
        oracle = self.fill(server)

        def listing():
            return sorted((os.path.join(d, f), os.path.getsize(os.path.join(d, f)))
                          for d, _, files in os.walk(server.store) for f in files
                          if not f.startswith("text.sqlite"))  # grows behind the answers
        before = listing()
        for words in (["--listen", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--create"],
                      ["--listen", "127.0.0.1:0", "--new-admin-key"]) * 5:
            done = subprocess.run([h.program("ascribed"), "--store", server.store, *words],
                                  capture_output=True, text=True, timeout=30 * h.SLOW, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("in use by another process", done.stderr)
        self.assertEqual(listing(), before)
        self.assert_answers(self.client, oracle)
        server.process.kill()  # the lock goes with its process: nothing stale is left
        server.process.wait()
        self.assert_answers(server.start(create=False).client(), oracle)


if __name__ == "__main__":
    h.main()
