#!/usr/bin/python3
"""run.py - a server under mixed work for as long as one likes, and whether anything creeps.

    tests/soak/run.py --build DIR [--minutes N] [--json FILE] [--svg FILE] [--book FILE]

Batches are ingested, the oldest examples taken down once LIVE are there, queries asked (their answer
held against numpy every so often), and the corpus compacted every COMPACT_S seconds, all at once. So
the live data stays what it is, and so must everything else: memory, files, descriptors, LMDB's
readers, the time a commit takes. Each second is a sample. At the end a line through the samples after
the first quarter says how much each grows an hour. Exits 1 when an answer was wrong or an operation
failed; what grows is reported, and judged where a bound is stated (BOUNDS).
"""
import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests/integration"), os.path.join(ROOT, "tests")]

DIM, BATCH, LIVE, COMPACT_S, CHECK = 1024, 200, 20000, 20, 50
# Growth over the whole run after its first quarter, beyond which something leaks.
BOUNDS = {"memory_mib": 48, "descriptors": 8, "readers": 8, "threads": 0.5}


class Soak:
    def __init__(self, server, seconds):
        self.server, self.until = server, time.monotonic() + seconds
        self.lock = threading.Lock()
        self.rows = {}  # id -> unit row of what is acknowledged and not being taken down
        self.order, self.doing = [], set()  # ids whose fate a query may see either way
        self.counts = {"batches": 0, "deleted": 0, "queries": 0, "checked": 0, "compacted": 0}
        self.commit_ms, self.query_ms, self.wrong = [], [], []

    def going(self):
        return time.monotonic() < self.until and not self.wrong

    def guard(self, work):
        try:
            work()
        except Exception as e:  # whatever it is, the soak has failed and says so
            self.wrong.append(f"{work.__name__}: {type(e).__name__}: {e}")

    def ingest(self):
        import harness as h
        client, rng, number = self.server.client(timeout=3600), np.random.default_rng(2), 0
        while self.going():
            x = rng.standard_normal((BATCH, DIM)).astype("f4")
            ids = [f"b{number}-{i}" for i in range(BATCH)]
            with self.lock:
                self.doing.update(ids)
            begin = time.monotonic()
            reply = client.put(f"/v1/corpora/c/batches/b{number}", h.batch(x, [
                {"id": i, "text": f"{i} and some words", "meta": {"batch": number}} for i in ids]))
            took = (time.monotonic() - begin) * 1e3
            assert reply.status == 201, reply
            unit = h.normalise(x)[0]
            with self.lock:
                self.rows.update(zip(ids, unit))
                self.order += ids
                self.doing.difference_update(ids)
                self.commit_ms.append((time.monotonic(), took))
                self.counts["batches"] += 1
            number += 1
            while self.going() and len(self.order) > LIVE + 2 * BATCH:
                time.sleep(0.02)

    def delete(self):
        client = self.server.client(timeout=3600)
        while self.going():
            with self.lock:
                old = self.order[:20] if len(self.order) > LIVE else []
                self.doing.update(old)
                del self.order[:len(old)]
            for name in old:
                reply = client.delete(f"/v1/corpora/c/examples/{name}")
                assert reply.status == 204, reply
                with self.lock:
                    del self.rows[name]
                    self.doing.discard(name)
                    self.counts["deleted"] += 1
            if not old:
                time.sleep(0.01)

    def query(self):
        import harness as h
        client, rng, number = self.server.client(timeout=3600), np.random.default_rng(os.getpid()), 0
        while self.going():
            q = rng.standard_normal((1, DIM)).astype("f4")
            with self.lock:
                sure, names = None, None
                if number % CHECK == 0 and self.rows:
                    names, sure, unsure = list(self.rows), np.stack(list(self.rows.values())), set(self.doing)
            begin = time.monotonic()
            reply = client.post("/v1/corpora/c/query?k=10&text=0", h.queries(q))
            assert reply.status == 200, reply
            with self.lock:
                self.query_ms.append((time.monotonic(), (time.monotonic() - begin) * 1e3))
                self.counts["queries"] += 1
                changed = unsure | self.doing | set(names) ^ set(self.rows) if sure is not None else None
            if sure is not None:
                self.check(reply.json()["results"][0]["proponents"], q, names, sure, changed)
            number += 1

    def check(self, hits, q, names, rows, changed):
        """What stood before and after must be there in order; what came or went meanwhile may be."""
        import harness as h
        unit = h.normalise(q)[0][0].astype(np.float64)
        score = rows.astype(np.float64) @ unit
        want = [n for n in (names[i] for i in np.argsort(-score)[:200]) if n not in changed]
        have = [x["id"] for x in hits if x["id"] not in changed]
        self.counts["checked"] += 1
        if have != want[:len(have)] or not changed and len(have) != min(10, len(names)):
            self.wrong.append(f"a query's answer: {have} where {want[:10]} should be")

    def compact(self):
        import harness as h
        client = self.server.client(timeout=3600)
        while self.going():
            time.sleep(1)
            if int(time.monotonic()) % COMPACT_S:
                continue
            job = client.post("/v1/admin/compact?corpus=c").json()["job"]["id"]

            def ended(job=job):
                state = client.get("/v1/jobs/" + job).json()["state"]
                assert state != "failed", "compact failed"
                return state == "succeeded"
            h.wait_until(ended, "compact", 300)
            self.counts["compacted"] += 1

    def sample(self, client, begin):
        text = client.get("/metrics").body.decode()

        def metric(name):
            return float(re.search(rf"^{name} (\S+)", text, re.M).group(1))
        pid = self.server.process.pid
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            status = f.read()
        now = time.monotonic()
        with self.lock:
            commit = [ms for at, ms in self.commit_ms if at > now - 10]
            query = [ms for at, ms in self.query_ms if at > now - 10]
        disk = sum(os.stat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(self.server.store)
                   for f in files if os.path.exists(os.path.join(d, f)))
        return {"s": round(now - begin, 1),
                "memory_mib": round(int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) / 1024, 2),
                "threads": int(re.search(r"Threads:\s+(\d+)", status).group(1)),
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                "readers": int(metric("ascribe_store_reader_slots")),
                "disk_mib": round(disk / 2**20, 1), "examples": int(metric("ascribe_store_examples")),
                "commit_p99_ms": round(float(np.percentile(commit, 99)), 2) if commit else None,
                "query_p99_ms": round(float(np.percentile(query, 99)), 2) if query else None}

    def run(self):
        client, begin, samples = self.server.client(timeout=3600), time.monotonic(), []
        workers = [threading.Thread(target=self.guard, args=(w,)) for w in
                   (self.ingest, self.delete, self.query, self.query, self.compact)]
        for w in workers:
            w.start()
        told = 0
        while self.going():
            time.sleep(1)
            try:
                samples.append(self.sample(client, begin))
            except FileNotFoundError:
                continue  # a file went while it was counted
            left = self.until - time.monotonic()
            if samples[-1]["s"] - told >= 10:
                told = samples[-1]["s"]
                print(f"{told:6.0f} s, {max(left, 0):5.0f} s left: {self.counts}  {samples[-1]}", flush=True)
        for w in workers:
            w.join()
        return samples


def growth(samples, name):
    """(change over the samples after the first quarter, a line's; the same an hour)"""
    late = [s for s in samples[len(samples) // 4:] if s[name] is not None]
    if len(late) < 3:
        return 0.0, 0.0
    at, value = np.array([s["s"] for s in late]), np.array([s[name] for s in late])
    slope = np.polyfit(at, value, 1)[0]
    return slope * (at[-1] - at[0]), slope * 3600


def picture(path, samples):
    import gnuplot
    names = [("memory_mib", "memory of the process, MiB"), ("disk_mib", "files of the store, MiB"),
             ("commit_p99_ms", "p99 of a batch, ms (10 s)"), ("query_p99_ms", "p99 of a query, ms (10 s)"),
             ("descriptors", "descriptors"), ("readers", "LMDB reader slots")]
    script = gnuplot.block("d", [[s["s"] / 60] + [s[n] for n, _ in names] for s in samples])
    script += "set multiplot layout 3,2\nset yrange [0:*]\nunset key\nset xlabel 'minutes'\n"
    for i, (name, title) in enumerate(names):
        if name.endswith("_ms"):
            script += "set logscale y\nset yrange [1:*]\n"
        script += f"set title '{title}'\nplot $d using 1:{i + 2} with lines lw 1.4 lc rgb '#3b7dd8'\nunset logscale\nset yrange [0:*]\n"
    gnuplot.draw(path, 900, 780, script + "unset multiplot\n")


def record(args, soak, grown):
    """Of the run, for the table of docs/reliability.md; what is told of memory and files is their growth."""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return {"kind": "soak", "date": str(datetime.datetime.now(datetime.timezone.utc).date()), "commit": commit, "seed": 2,
            "n": round(args.minutes * 60), "violations": int(bool(soak.wrong)), **soak.counts,
            **{k: round(grown[k], 1) for k in ("memory_mib", "disk_mib", "descriptors", "readers")}}


def main():
    parser = argparse.ArgumentParser(description="Mixed work for minutes or hours.")
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--json", help="the samples, a line each, and the summary as the last")
    parser.add_argument("--book", help="append a record of the run there (tests/net/ledger.jsonl)")
    parser.add_argument("--svg", help="a picture of them (needs gnuplot)")
    args = parser.parse_args()
    os.environ["ASCRIBE_BUILD"] = args.build
    import harness as h
    scratch = tempfile.mkdtemp(prefix="ascribe-soak-")
    try:
        server = h.Server(os.path.join(scratch, "s"), ("--chunk-bytes", "1M", "--shard-bytes", "64M",
                                                          # a machine that stands still for a while is no fault
                                                          "--idle-ms", "3600000", "--deadline-ms", "3600000"))
        server.start()
        assert server.client().put("/v1/corpora/c", {"dim": DIM}).status == 201
        soak = Soak(server, args.minutes * 60)
        samples = soak.run()
        server.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    summary = {"minutes": args.minutes, **soak.counts, "wrong": soak.wrong[:5], "growth": {}}
    for name in ("memory_mib", "disk_mib", "descriptors", "readers", "threads", "commit_p99_ms", "query_p99_ms"):
        change, hourly = growth(samples, name)
        summary["growth"][name] = round(change, 2)
        print(f"{name:14} {change:+9.2f} after the first quarter ({hourly:+.1f} an hour), last {samples[-1][name]}")
        if name in BOUNDS and change > BOUNDS[name]:
            soak.wrong.append(f"{name} grew by {change:.1f}, at most {BOUNDS[name]} is no leak")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(x) + "\n" for x in samples + [summary])
    if args.svg:
        picture(args.svg, samples)
    if args.book:
        with open(args.book, "a", encoding="utf-8") as f:
            f.write(json.dumps(record(args, soak, summary["growth"])) + "\n")
    print(soak.counts)
    print("ok" if not soak.wrong else "FAILED: " + "; ".join(soak.wrong[:5]))
    sys.exit(1 if soak.wrong else 0)


if __name__ == "__main__":
    main()
