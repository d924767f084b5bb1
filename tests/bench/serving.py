"""serving.py - ascribe over HTTP: ingest against the disk, latency by engine and precision, one client
and many, batches, both ends, a task, memory, restart. Answers are compared, not only timed."""
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import threading
import time

import numpy as np

import book
import contend
from book import MB, h, quantile

K = 10
# What is asked for in the path, and what it is called.
WAYS = {"certified": "engine=tiered&precision=certified", "probabilistic": "engine=tiered&precision=probabilistic",
        "auto": "engine=auto", "scan": "engine=scan", "flat": "engine=flat"}


class Memory:
    """Peak of a process's anonymous memory while inside, in MiB: what is mapped from files (planes,
    rows) is the page cache's and is not counted."""

    def __init__(self, pid):
        self.path, self.peak, self.over = f"/proc/{pid}/status", 0, threading.Event()

    def sample(self):
        with open(self.path, encoding="ascii") as f:
            self.peak = max(self.peak, int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) / 1024)

    def look(self):
        while not self.over.wait(0.01):
            self.sample()

    def __enter__(self):
        self.sample()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.sample()


# ---- ingest ----------------------------------------------------------------------------------------

def dd(where, paths):
    """Seconds of dd writing the same bytes to one file on the same disk, synced at the end."""
    target = os.path.join(where, "dd.out")
    began = time.monotonic()
    with subprocess.Popen(["dd", f"of={target}", "bs=1M", "conv=fdatasync", "status=none", "iflag=fullblock"],
                          stdin=subprocess.PIPE) as p:
        for path in paths:
            with open(path, "rb") as f:
                shutil.copyfileobj(f, p.stdin, 1 << 20)
        p.stdin.close()
        p.wait()
    seconds = time.monotonic() - began
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
        began = time.monotonic()
        while True:
            reply = client.put(f"/v1/corpora/{corpus}/batches/b{n:06d}", body)
            if reply.status != 503:
                break
            time.sleep(0.01)
        assert reply.status in (200, 201), reply
        told.put(time.monotonic() - began)
    client.close()


def send_all(server, corpus, paths, clients):
    at, told = multiprocessing.Value("q", 0), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=sender, args=(server.address, server.key, corpus, paths, at, told))
               for _ in range(clients)]
    began = time.monotonic()
    for w in workers:
        w.start()
    times = [told.get() for _ in paths]
    seconds = time.monotonic() - began
    for w in workers:
        w.join()
    return seconds, times


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ingest(book_, server, data, where, clients=2):
    """Into corpus `bench`, with dd of the same bytes before and after on the same disk."""
    paths = data.batch_paths()
    total = sum(os.path.getsize(p) for p in paths)
    for path in paths:  # both sides read what is in the page cache
        with open(path, "rb") as f:
            while f.read(1 << 24):
                pass
    raw = [dd(where, paths)]
    client = server.client(timeout=300)
    assert client.put("/v1/corpora/bench", {"dim": data.dim, "encoded": True}).status == 201
    before = processor_seconds(server.process.pid)
    with Memory(server.process.pid) as memory:
        seconds, times = send_all(server, "bench", paths, clients)
    busy = (processor_seconds(server.process.pid) - before) / seconds
    raw.append(dd(where, paths))
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(server.store) for f in files if f == "data.mdb")
    disk = total / min(raw) / MB
    book_.add("dd conv=fdatasync", f"{total / raw[0] / MB:9.0f} MB/s before, {total / raw[1] / MB:.0f} MB/s after", mb_s=disk)
    book_.add(f"ingest, {clients} clients, durable, coded",
              f"{total / seconds / MB:9.0f} MB/s  {data.count / seconds:8.0f} rows/s   {total / seconds / MB / disk * 100:.0f} % of dd   "
              f"{busy:.2f} processors busy   batch p50 {quantile(times, .5) * 1e3:.0f} ms, p99 {quantile(times, .99) * 1e3:.0f} ms",
              mb_s=total / seconds / MB, rows_s=data.count / seconds, of_dd=total / seconds / MB / disk, busy=busy,
              batch_ms=book.spread([t * 1e3 for t in times]), store_bytes=size, body_bytes=total, anon_mib=memory.peak)
    client.close()


# ---- queries ---------------------------------------------------------------------------------------

def ask(server, queries, dim, way, corpus="bench", clients=1, requests=40, batch=1, k=K, opponents=0, more="", answers=None):
    """bench_http's figures for that many requests."""
    path = f"/v1/corpora/{corpus}/query?k={k}&opponents={opponents}&{WAYS[way]}{more}"
    command = [os.path.join(h.BUILD, "bench_http"), "--address", "%s:%d" % server.address, "--key-file", server.store + "/admin.key",
               "--path", path, "--queries", queries, "--dim", str(dim), "--clients", str(clients),
               "--requests", str(max(requests, clients)), "--batch", str(batch)]
    done = subprocess.run(command + (["--answers", answers] if answers else []), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{path}: bench_http: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def told_http(r):
    return (f"p50 {r['ms']['p50']:9.2f} ms   p95 {r['ms']['p95']:9.2f}   {r['qps']:8.1f} queries/s   "
            f"server's took {r['took_ms']['p50']:.2f}: HTTP and waiting add {r['adds_ms']['p50']:.2f}")


def read_answers(path):
    """{request number: answer}."""
    with open(path, encoding="utf-8") as f:
        return {int(n): json.loads(body) for n, body in (line.split("\t", 1) for line in f)}


def ends(answer):
    """What must be equal between engines: ids and scores of both ends."""
    return [[[(x["id"], x["score"]) for x in r.get(end) or []] for end in ("proponents", "opponents")] for r in answer["results"]]


def in_process(data, count, opponents):
    """{query number: both ends} of the engine scan, called directly on the same rows."""
    ids = data.ids()
    mine = contend.ours(data)
    try:
        a = mine.ask("scan", 0, count, K, opponents)
    finally:
        mine.close()
    name = lambda rows, scores: [(ids[i], s) for i, s in zip(rows, scores)]
    return {n: [[name(a["ids"][n], a["scores"][n]), name(a["low_ids"][n], a["low_scores"][n])]] for n in range(count)}


def compare(book_, server, data, where, ways, count=48, opponents=5):
    """The same queries by every way; all must give the ids and scores of the plain exact scan, called
    in process on the same rows, to the bit."""
    right = in_process(data, count, opponents)
    for way in ways:
        path = f"{where}/{way}.answers"
        ask(server, data.queries, data.dim, way, requests=count, clients=4, opponents=opponents, more="&text=0", answers=path)
        found = read_answers(path)
        same = sum(ends(found[n]) == right[n] for n in right)
        first = found[0]
        read = first.get("read") or first.get("work")
        book_.add(f"answers of {way}", f"{same} of {len(right)} as the plain scan in process, ids and scores to the bit; exact: {first['exact']}; read {read}",
                  way=way, same=same, of=len(right), exact=first["exact"], read=read)


def alternate(server, data, first, second, rounds=6, requests=12):
    """Two kinds of request in turn, so that noise meets both: (p50s of the first, of the second), from
    all latencies' medians a round."""
    a, b = [], []
    for _ in range(rounds):
        a.append(ask(server, requests=requests, **first)["ms"]["p50"])
        b.append(ask(server, requests=requests, **second)["ms"]["p50"])
    return quantile(a, .5), quantile(b, .5)


def latency(book_, server, data, ways, many=True):
    """One client, then 8 and 64; a batch of 256."""
    for way in ways:
        slow = way in ("scan", "flat")
        ask(server, data.queries, data.dim, way, requests=2)
        one = ask(server, data.queries, data.dim, way, requests=24 if slow else 200)
        book_.add(f"{way}, 1 client", told_http(one), way=way, **{n: v for n, v in one.items() if n != "bench"})
        for clients in (8, 64) if many and way != "flat" else ():
            r = ask(server, data.queries, data.dim, way, clients=clients, requests=(2 if slow else 24) * clients)
            book_.add(f"{way}, {clients} clients", told_http(r) + f"   {r['qps'] / one['qps']:.2f}x one client",
                      way=way, of_one=r["qps"] / one["qps"], **{n: v for n, v in r.items() if n != "bench"})
        if many and way != "scan":
            r = ask(server, data.queries, data.dim, way, batch=256, requests=5, more="&text=0")
            book_.add(f"{way}, 256 queries in one request", told_http(r), way=way, **{n: v for n, v in r.items() if n != "bench"})


def both_ends(book_, server, data, ways):
    for way in ways:
        base = {"server": server, "queries": data.queries, "dim": data.dim, "way": way, "more": "&text=0"}
        base.pop("server")
        one, both = alternate(server, data, {**base}, {**base, "opponents": 10})
        book_.add(f"{way}, 10 opponents as well", f"p50 {both:9.2f} ms against {one:.2f} ms: {both / one:.2f}x", way=way, p50=both, alone_p50=one, ratio=both / one)


def restart(book_, server):
    times = []
    for _ in range(5):
        server.kill()
        server.start(create=False)
        times.append(server.ready_seconds * 1e3)
    book_.add("ready after SIGKILL, from exec", book.told(times), ms=book.spread(times))


def serve(book_, data, where):
    """The whole of it on one store; engine flat last, its FAISS copies are memory of another kind."""
    server = h.Server(where + "/store", ("--memory", "4G"))
    server.start()
    try:
        book.title("ingest over HTTP, against dd conv=fdatasync of the same bytes")
        ingest(book_.on(section="ingest"), server, data, where)
        book.title("queries over HTTP, top 10 with texts")
        on = book_.on(section="http")
        with Memory(server.process.pid) as memory:
            compare(on, server, data, where, ["scan", "certified", "probabilistic", "auto"])
            latency(on, server, data, ["certified", "probabilistic", "auto"])
            both_ends(on, server, data, ["certified", "probabilistic"])
        allowed = 256 + 64 * data.count / 2**20
        on.add("anonymous memory, peak so far", f"{memory.peak:9.0f} MiB, page cache apart; 256 MiB + 64 B a row is {allowed:.0f}",
               anon_mib=memory.peak, allowed_mib=allowed)
        latency(on, server, data, ["scan", "flat"])
        restart(on, server)
    finally:
        server.stop()


# ---- a task ----------------------------------------------------------------------------------------

def job(client, reply):
    assert reply.status == 202, reply
    where = reply.headers["Location"]
    while True:
        state = client.get(where).json()
        state = state.get("job", state)
        if state["state"] in ("succeeded", "failed", "cancelled"):
            assert state["state"] == "succeeded", state
            return state
        time.sleep(0.05)


def task(book_, data):
    """The fitted corpus of the data's own store: raw gradients asked, with and without a task."""
    server = h.Server(data.store)
    server.start(create=False)
    on = book_.on(section="task")
    try:
        client = server.client(timeout=600)
        job(client, client.post("/v1/admin/compact"))  # codes, for a store made without them
        evaluation = np.fromfile(data.raw_queries, np.float32).reshape(-1, data.dim)[256:]
        began = time.monotonic()
        job(client, client.put("/v1/corpora/real/tasks/bench?lambda=0.9", h.tensors([h.matrix("gradients", evaluation)])))
        on.add(f"a task of {len(evaluation)} gradients made", f"{time.monotonic() - began:9.2f} s", seconds=time.monotonic() - began)
        for way in ("certified", "probabilistic"):
            base = {"queries": data.raw_queries, "dim": data.dim, "way": way, "corpus": "real"}
            ask(server, requests=2, more="&task=bench", **base)
            plain, under = alternate(server, data, base, {**base, "more": "&task=bench"})
            on.add(f"{way}, under a task", f"p50 {under:9.2f} ms against {plain:.2f} ms: {under / plain:.2f}x", way=way, p50=under, alone_p50=plain, ratio=under / plain)
        client.close()
    finally:
        server.stop()
