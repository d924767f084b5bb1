"""strain.py - parts of run.py: a good client beside bad ones, exchanges broken off, more requests than
can be answered, and the end of a server under load.
"""
import http.client
import os
import shutil
import signal
import socket
import statistics
import threading
import time

import crowd
import load

QUERY = "/v1/corpora/c/query?k=5"


def crowds(b, server):
    """(name, how many, makes a crowd) of every kind there is, or of those that were asked for."""
    sizes = {"idle": 2000, "slow-head": 2000, "slow-body": 2000, "slow-reader": 2000, "abort": 2000, "flood": 200,
             "guess": 8}
    found = []
    for manner in crowd.MANNERS:
        count = sizes[manner] // b.pick(10, 1) or 1
        found.append((manner, count, lambda m=manner, n=count: crowd.Crowd(server.address, m, n, server.key)))
    if shutil.which("slowhttptest") and not b.args.quick:
        for mode in ("-H", "-B", "-X"):
            found.append(("slowhttptest" + mode, 2000, lambda m=mode: crowd.SlowTest(server.address, m, 2000, server.key)))
    wanted = b.args.crowds.split(",") if b.args.crowds else [f[0] for f in found]
    return [f for f in found if f[0] in wanted]


def settle(client, body):
    """What the crowd asked for as it came is answered: now it only stands there."""
    end = time.monotonic() + 60
    while max(crowd.good(client, QUERY, body, 0.1)) > 50 and time.monotonic() < end:
        pass


def beside(b):
    """Alone and beside the crowd in turns; each ratio is of two turns that follow one another."""
    turns, seconds = b.pick(1, 6), b.pick(0.7, 2)
    # Room for all of them: at the default of 1,024 connections most would lose their place at once.
    server = b.serve("--threads", "2", "--connections", "4096")
    client = server.client()
    body = b.fill(client)
    crowd.good(client, QUERY, body, 1)
    asked, wrong, found = 0, 0, {}
    for name, count, make in crowds(b, server):
        alone, during, ratios, connections = [], [], [], 0
        for _ in range(turns):
            one = crowd.good(client, QUERY, body, seconds)
            with make() as c:
                settle(client, body)
                two = crowd.good(server.client(), QUERY, body, seconds)  # who comes when they are there
                connections += c.connections
            alone, during = alone + one, during + two
            ratios.append(crowd.quantile(two, 0.99) / crowd.quantile(one, 0.99))
            b.h.wait_until(lambda: server.rss_kib()[1] < 100, "the crowd to be gone")
        ratio = round(statistics.median(ratios), 2)
        b.note("beside", manner=name, clients=count, connections=connections,
               alone_p50_ms=round(crowd.quantile(alone, 0.5), 2), beside_p50_ms=round(crowd.quantile(during, 0.5), 2),
               alone_p99_ms=round(crowd.quantile(alone, 0.99), 2),
               beside_p99_ms=round(crowd.quantile(during, 0.99), 2), ratio_p99=ratio)
        wrong += b.check(server.alive(), f"the server lives beside {name}")
        asked, found[name] = asked + len(during), ratio
    b.book("beside", asked, wrong, ratios=found)
    b.end(server)


def aborts(b):
    """Exchanges that are broken off, half with a reset, at any byte; then those of a crowd."""
    count = b.pick(1000, 10000)
    server = b.serve()
    client = server.client()
    body = b.fill(client)
    request = (f"POST {QUERY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body

    def storm(n, step):
        for i in range(n):
            with socket.create_connection(server.address) as s:
                s.sendall(request[:i * step % (len(request) + 1)])
                if i % 2:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, crowd.RESET)
    storm(count // 10, 17)
    time.sleep(0.5)
    memory, descriptors = server.rss_kib()
    storm(count, 7)
    with crowd.Crowd(server.address, "abort", count, server.key) as c:
        total = count + c.connections
    b.h.wait_until(lambda: client.get("/healthz").status == 200, "the server to answer")
    end = time.monotonic() + 20
    while server.rss_kib()[1] > descriptors + 2 and time.monotonic() < end:
        time.sleep(0.1)
    left, grown = server.rss_kib()[1] - descriptors, (server.rss_kib()[0] - memory) / 1024
    b.note("aborts", exchanges=total, descriptors_left=max(left, 0), memory_mib=round(grown, 1))
    wrong = b.check(left <= 2, f"{left} descriptors are left of {total} exchanges broken off")
    wrong += b.check(client.post(QUERY, body).status == 200, "a query is answered as before")
    b.end(server)
    b.book("aborts", total, wrong, descriptors_left=max(left, 0), memory_mib=round(grown, 1))


def overload(b):
    seconds = b.pick(2, 10)
    server = b.serve("--threads", "1", "--read-queue", "8")
    body = b.fill(server.client(), 20000, 1024)
    path = "/v1/corpora/c/scores?dtype=f64"  # a pass over all rows each, never shared
    request = (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.key}\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    # What it can do: two requests at a time keep its one thread busy, and none is refused.
    took = load.flood(server.address, request, 1e4, seconds, most=2)
    capacity = len(took[200]) / seconds
    for times in (3, 10):
        took = load.flood(server.address, request, capacity * times, seconds)
        refused, answered = took.get(503, []), took.get(200, [])
        goodput = round(len(answered) / seconds / capacity, 2)
        figures = {"capacity_per_s": round(capacity, 1), "goodput": goodput,
                   "refused_p50_ms": round(crowd.quantile(refused, 0.5), 2) if refused else None,
                   "refused_p99_ms": round(crowd.quantile(refused, 0.99), 2) if refused else None,
                   "answered_p99_ms": round(crowd.quantile(answered, 0.99), 1) if answered else None}
        other = {k: len(v) for k, v in took.items() if k not in (200, 503)}
        b.note("overload", times=times, answered=len(answered), refused=len(refused), **figures, other=other)
        wrong = b.check(not other, f"every request is answered 200 or 503: {other}")
        b.book("overload", sum(map(len, took.values())), wrong, times=times, **figures)
    b.end(server)


def drains(b):
    rounds = b.pick(5, 100)
    store = os.path.join(b.scratch, "drains")
    cut = whole = refused = late = 0
    longest, body = 0.0, None
    for number in range(rounds):
        server = b.serve(store=store, create=number == 0)
        if number == 0:
            body = b.fill(server.client())
        results, stop = [], threading.Event()

        def ask(server=server, results=results, stop=stop):
            client = server.client()
            while not stop.is_set():
                try:
                    reply = client.post("/v1/corpora/c/query?k=50", body)
                    ok = reply.status == 503 or reply.status == 200 and len(reply.json()["results"]) == 1
                    results.append("whole" if ok else "cut")
                except http.client.IncompleteRead:
                    results.append("cut")
                except (OSError, http.client.HTTPException):
                    results.append("refused")  # no byte of an answer came: nothing was said
                    return
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for t in threads:
            t.start()
        time.sleep(0.1 + 0.01 * (number % 10))
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(60)
        longest = max(longest, time.monotonic() - begin)
        stop.set()
        for t in threads:
            t.join()
        cut += results.count("cut")
        whole += results.count("whole")
        refused += results.count("refused")
        late += code != 0
    b.note("drains", rounds=rounds, answers=whole, cut=cut, connections_closed=refused, bad_exits=late,
           longest_s=round(longest, 2))
    b.check(cut == 0 and late == 0, f"{cut} answers cut, {late} exits that are not 0")
    b.book("drains", rounds, cut + late, answers=whole, cut=cut, longest_s=round(longest, 2))
