"""bench.py - what tests/bench/run.sh runs; see there. One run, one disk, one machine, side by side."""
import argparse
import glob
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import harness as h  # noqa: E402

MB = 1e6


def setting(name, fallback):
    return type(fallback)(os.environ.get("BENCH_" + name, fallback))


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


# ---- data ------------------------------------------------------------------------------------------

def demo_batches(dim, rows):
    """Paths of the demo's batch files when they hold `rows` rows of that dimension, else None."""
    out, have = [], 0
    for path in sorted(glob.glob(os.path.join(h.ROOT, "build/demo/**/*.safetensors"), recursive=True)):
        with open(path, "rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(min(length, 1 << 20)))
        shape = header.get("gradients", {}).get("shape")
        if "examples" in header and shape and shape[1] == dim:
            out.append(path)
            have += shape[0]
    return (out, have) if have >= rows else (None, 0)


def write_batches(where, rows, dim, dtype, size):
    """Seeded normal deviates as batch files; their paths."""
    out = []
    for n, at in enumerate(range(0, rows, size)):
        count = min(size, rows - at)
        x = np.random.default_rng([2410, n]).standard_normal((count, dim), dtype=np.float32)
        examples = [{"id": f"row-{i}", "text": f"the passage of row {i}"} for i in range(at, at + count)]
        path = os.path.join(where, f"b{n:06d}.safetensors")
        with open(path, "wb") as f:
            f.write(h.batch(x, examples, dtype))
        out.append(path)
    return out


def some_queries(paths, count):
    """Query rows near stored ones: the first rows of some batches, with a tenth of noise."""
    out = []
    for path in (paths * count)[:count]:
        with open(path, "rb") as f:
            found, _ = h.read_tensors(f.read())
        kind, x = found["gradients"]
        row = h.widen(x[len(out) % len(x)], kind.lower()).astype(np.float32)
        noise = np.random.default_rng(len(out)).standard_normal(len(row)).astype(np.float32)
        out.append(row + 0.1 * noise * np.linalg.norm(row) / np.sqrt(len(row)))
    return np.array(out, np.float32)


# ---- measurements ----------------------------------------------------------------------------------

def dd(where, paths):
    """Seconds of dd writing the same bytes to one file on the same disk, synced at the end."""
    target = os.path.join(where, "dd.out")
    begin = time.monotonic()
    with subprocess.Popen(["dd", f"of={target}", "bs=1M", "conv=fdatasync", "status=none", "iflag=fullblock"],
                          stdin=subprocess.PIPE) as p:
        for path in paths:
            with open(path, "rb") as f:
                shutil.copyfileobj(f, p.stdin, 1 << 20)
        p.stdin.close()
        p.wait()
    seconds = time.monotonic() - begin
    os.unlink(target)
    return seconds


def sender(address, key, corpus, paths, at, told):
    """One ingesting client: takes the next batch until none is left."""
    client = h.Client(address, key, timeout=300)
    while True:
        with at.get_lock():
            n = at.value
            at.value += 1
        if n >= len(paths):
            break
        with open(paths[n], "rb") as f:
            body = f.read()
        begin = time.monotonic()
        while True:
            reply = client.put(f"/v1/corpora/{corpus}/batches/b{n:06d}", body)
            if reply.status != 503:
                break
            time.sleep(0.01)
        assert reply.status in (200, 201), reply
        told.put(time.monotonic() - begin)
    client.close()


def ingest(server, corpus, paths, clients):
    at, told = multiprocessing.Value("q", 0), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=sender, args=(server.address, server.key, corpus, paths, at, told))
               for _ in range(clients)]
    begin = time.monotonic()
    for w in workers:
        w.start()
    times = [told.get() for _ in paths]
    seconds = time.monotonic() - begin
    for w in workers:
        w.join()
    return seconds, times


def asker(address, key, corpus, engine, queries, count, k, first, gate, told):
    """One querying client: (seconds as the client saw it, seconds as the server says) of each query."""
    client = h.Client(address, key, timeout=300)
    client.get("/readyz")
    gate.wait()
    out = []
    for i in range(count):
        body = h.queries(queries[(first + i) % len(queries)])
        begin = time.monotonic()
        reply = client.post(f"/v1/corpora/{corpus}/query?k={k}&engine={engine}", body)
        seconds = time.monotonic() - begin
        assert reply.status == 200, reply
        out.append((seconds, reply.json()["took_ms"] / 1e3))
    told.put(out)
    client.close()


def ask(server, corpus, engine, queries, clients, count, k):
    gate, told = multiprocessing.Barrier(clients + 1), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=asker, args=(server.address, server.key, corpus, engine, queries, count, k, 7 * c, gate, told))
               for c in range(clients)]
    for w in workers:
        w.start()
    gate.wait()
    begin = time.monotonic()
    out = sum((told.get() for _ in workers), [])
    seconds = time.monotonic() - begin
    for w in workers:
        w.join()
    return seconds, [s for s, _ in out], [t for _, t in out]


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        found = re.search(r"model name\s*:\s*(.*)", f.read())
    commit = subprocess.run(["git", "-C", h.ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {"machine": (found.group(1) if found else platform.machine()), "cores": os.cpu_count(), "commit": commit,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


class Book:
    """Prints a line a figure and keeps it, with what the machine and the data are."""

    def __init__(self, path, about):
        self.path, self.about = path, about
        os.makedirs(os.path.dirname(path), exist_ok=True)

    def add(self, what, line, **figures):
        print(f"  {what:34} {line}", flush=True)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps({**self.about, "bench": "server", "what": what, **figures}) + "\n")


def bench_flat(build, book, paths, queries, k, where, server_p50):
    """FAISS called directly on the same rows, by the C program of the index's bench, if it is there."""
    program = os.path.join(h.ROOT, build, "bench_flat")
    if not os.access(program, os.X_OK):
        print(f"  {'FAISS directly':34} {build}/bench_flat is not built")
        return
    base, asked = os.path.join(where, "rows.f32"), os.path.join(where, "queries.f32")
    with open(base, "wb") as f:
        for path in paths:
            with open(path, "rb") as g:
                kind, x = h.read_tensors(g.read())[0]["gradients"]
            x = h.widen(x, kind.lower()).astype(np.float32)
            x /= np.linalg.norm(x.astype(np.float64), axis=1)[:, None].astype(np.float32)
            f.write(x.tobytes())
    with open(asked, "wb") as f:
        f.write((queries / np.linalg.norm(queries, axis=1)[:, None]).astype(np.float32).tobytes())
    command = [program, "--rows", base, "--queries", asked, "--dim", str(queries.shape[1]), "--k", str(k),
               "--batches", f"1,{len(queries)}", "--rounds", "7", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"  {'FAISS directly':34} bench_flat: exit {done.returncode}: {done.stderr.strip()[-200:]}")
    for text in done.stdout.splitlines():
        f = json.loads(text)
        over = "".join(f"; {engine} over HTTP {p50 * 1e3:.1f} ms, {p50 * 1e3 / f['faiss_ms_p50']:.2f} x FAISS"
                       for engine, p50 in server_p50.items()) if f["batch"] == 1 else ""
        book.add(f"{f['batch']} quer{'y' if f['batch'] == 1 else 'ies'} at a time, in process",
                 f"FAISS {f['faiss_ms_p50']:9.1f} ms   flat {f['flat_ms_p50']:9.1f} ms, {f['flat_to_faiss']:.2f} x FAISS{over}",
                 **{("engine" if n == "bench" else n): v for n, v in f.items()})


def query(server, client, book, engine, queries, count, k):
    """One engine over HTTP; the median of one client, in seconds."""
    print(f"query over HTTP, top {k}, engine {engine}" + (" (what auto takes for fewer than 20 queries)" if engine == "scan" else ""))
    begin = time.monotonic()
    client.post(f"/v1/corpora/bench/query?k={k}&engine={engine}", h.queries(queries[0]))
    seconds = time.monotonic() - begin
    book.add("first query", f"{seconds * 1e3:9.1f} ms", engine=engine, ms=seconds * 1e3)
    p50 = None
    for clients, each in ((1, count), (8, max(4, count // 4))):
        seconds, walls, own = ask(server, "bench", engine, queries, clients, each, k)
        p50 = p50 or quantile(walls, .5)
        adds = statistics.median(w - o for w, o in zip(walls, own))
        book.add(f"{clients} client{'s' if clients > 1 else ''}",
                 f"p50 {quantile(walls, .5) * 1e3:9.1f} ms  p99 {quantile(walls, .99) * 1e3:9.1f} ms  {len(walls) / seconds:7.1f} queries/s   "
                 f"took_ms p50 {quantile(own, .5) * 1e3:.1f}: {'waiting, ' if clients > 1 else ''}HTTP and client add {adds * 1e3:.2f} ms",
                 engine=engine, clients=clients, p50_ms=quantile(walls, .5) * 1e3, p99_ms=quantile(walls, .99) * 1e3,
                 qps=len(walls) / seconds, took_p50_ms=quantile(own, .5) * 1e3, http_adds_ms=adds * 1e3)
    batch = h.queries(np.tile(queries, (4, 1)))
    begin = time.monotonic()
    assert client.post(f"/v1/corpora/bench/query?k={k}&text=0&engine={engine}", batch).status == 200
    seconds = time.monotonic() - begin
    book.add("64 queries in one request", f"{seconds * 1e3:9.1f} ms   {seconds * 1e3 / 64:.1f} ms each", engine=engine, ms=seconds * 1e3)
    return p50


def run(args, where):
    rows, dim, dtype = setting("ROWS", 20000), setting("DIM", 16384), setting("DTYPE", "f32")
    size, count, k = setting("BATCH", 250), setting("QUERIES", 40), setting("K", 10)
    paths, have = demo_batches(dim, rows)
    if paths:
        rows, data = have, "the demo's gradients"
    else:
        print("making rows ...", flush=True)
        os.mkdir(where + "/batches")
        paths, data = write_batches(where + "/batches", rows, dim, dtype, size), "seeded normal deviates (no demo encodings here)"
    total = sum(os.path.getsize(p) for p in paths)
    about = {**machine(), "rows": rows, "dim": dim, "dtype": dtype, "batches": len(paths), "bytes": total, "k": k, "data": data}
    book = Book(os.path.join(h.ROOT, "build/bench/results.jsonl"), about)
    print(f"ascribe server bench: {rows} x {dim} {dtype}, {total / MB:.0f} MB in {len(paths)} batches; {data}")
    print(f"{about['machine']}, {about['cores']} cores, commit {about['commit']}")

    print("ingest over HTTP, against dd conv=fdatasync of the same bytes (before and after, the better one)")
    for path in paths:  # both sides read what is in the page cache
        with open(path, "rb") as f:
            f.read()
    dd_seconds = dd(where, paths)
    server = h.Server(where + "/store", ("--memory", "4G"))  # room for all of FAISS's copies
    server.start()
    client = server.client(timeout=300)
    assert client.put("/v1/corpora/bench", {"dim": dim, "dtype": dtype}).status == 201
    clients = setting("CLIENTS", 2)
    seconds, times = ingest(server, "bench", paths, clients)
    dd_seconds = min(dd_seconds, dd(where, paths))
    book.add("dd conv=fdatasync", f"{total / dd_seconds / MB:9.0f} MB/s", mb_s=total / dd_seconds / MB)
    book.add(f"ingest, {clients} clients, durable", f"{total / seconds / MB:9.0f} MB/s  {rows / seconds:8.0f} rows/s   "
             f"{dd_seconds / seconds * 100:.0f} % of dd   batch p50 {quantile(times, .5) * 1e3:.0f} ms, p99 {quantile(times, .99) * 1e3:.0f} ms",
             mb_s=total / seconds / MB, rows_s=rows / seconds, of_dd=dd_seconds / seconds)

    queries = some_queries(paths, 16)
    p50 = {engine: query(server, client, book, engine, queries, count, k) for engine in ("flat", "scan")}

    print("ready again after a restart (from exec to the ready line)")
    memory, _ = server.rss_kib()
    client.close()
    times = []
    for _ in range(5):
        server.kill()
        server.start(create=False)
        times.append(server.ready_seconds)
    book.add("5 restarts after SIGKILL", f"p50 {quantile(times, .5) * 1e3:9.0f} ms  max {max(times) * 1e3:9.0f} ms",
             p50_ms=quantile(times, .5) * 1e3, max_ms=max(times) * 1e3)
    book.add("resident memory after the queries", f"{memory / 1024:9.0f} MiB outside the page cache", mib=memory / 1024)
    server.stop()

    print("engine flat against FAISS called directly, on the same rows")
    bench_flat(args.build, book, paths, queries, k, where, p50)
    print("appended to build/bench/results.jsonl")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build/release")
    args, _ = parser.parse_known_args()
    base = os.environ.get("BENCH_DIR", os.path.join(h.ROOT, "build/bench"))
    where = tempfile.mkdtemp(prefix="run-", dir=base)
    try:
        run(args, where)
    finally:
        shutil.rmtree(where, ignore_errors=True)


if __name__ == "__main__":
    main()
