"""doors.py - parts of run.py: an ingest through a network that breaks, and whoever guesses keys.
"""
import json
import os
import secrets
import socket
import subprocess
import sys
import time

import numpy as np

ROWS, DIM, BATCH = 2000, 64, 25


def network(b):
    """Both clients send through the weather and send again: each batch arrives once, to the bit."""
    from weather import Weather
    sys.path.insert(0, os.path.join(os.path.dirname(b.h.__file__), "../../client/python"))
    import ascribe
    rounds = b.pick(1, 8)
    server = b.serve()
    client = server.client()
    sums = {"resets": 0, "connections": 0, "examples": 0, "duplicates": 0}
    wrong = 0
    for number in range(rounds):
        rng = np.random.default_rng([b.args.seed, number])
        x = rng.standard_normal((ROWS, DIM)).astype("<f4")
        rows = [{"id": f"e/{i}", "text": f"text {i}"} for i in range(ROWS)]
        name = f"c{number}"
        assert client.put("/v1/corpora/" + name, {"dim": DIM}).status == 201
        with Weather(server.address, b.args.seed + number) as weather:
            if number % 2:
                with ascribe.Client(weather.url, key=server.key, timeout=30, retries=60) as c:
                    c.corpus(name).ingest(x, rows, rows_per_batch=BATCH)
            else:
                command_line(b, weather.url, server.key, name, x, rows)
        wrong += b.check(weather.resets > 0, f"{name}: the network broke at all")
        sums["resets"] += weather.resets
        sums["connections"] += weather.connections
        wrong += compare(b, client, name, x, sums)
    b.note("network", rounds=rounds, **sums, wrong=wrong)
    b.end(server)
    b.book("network", rounds * ROWS, wrong, rounds=rounds, **sums)


def command_line(b, url, key, name, x, rows):
    where = os.path.join(b.scratch, name)
    np.save(where + ".npy", x)
    with open(where + ".jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    subprocess.run([b.h.program("ascribe"), "ingest", name, "--gradients", where + ".npy", "--examples",
                    where + ".jsonl", "--rows-per-batch", str(BATCH), "--retries", "60", "-q", "--server", url],
                   env=dict(os.environ, ASCRIBE_KEY=key), check=True, timeout=300)


def compare(b, client, name, x, sums):
    """What is stored is what was sent, once each."""
    ids, after = [], ""
    while True:
        page = client.get(f"/v1/corpora/{name}/examples?limit=1000{after}").json()
        ids += [e["id"] for e in page["examples"]]
        if not page.get("next"):
            break
        after = "&after=" + b.h.quote(page["next"])
    sums["examples"] += len(ids)
    sums["duplicates"] += len(ids) - len(set(ids))
    wrong = b.check(sorted(ids) == sorted(f"e/{i}" for i in range(ROWS)), f"{name}: each example once: {len(ids)}")
    unit = b.h.normalise(x)[0].astype(np.float64)
    reply = client.post(f"/v1/corpora/{name}/query?k={ROWS}&text=0", b.h.queries(x[:1])).json()
    have = {p["id"]: p["score"] for p in reply["results"][0]["proponents"]}
    want = b.h.lane_dot(b.h.normalise(x)[0], b.h.normalise(x[:1])[0][0])
    assert unit.shape == x.shape
    return wrong + b.check(have == {f"e/{i}": float(s) for i, s in enumerate(want)}, f"{name}: every score to the bit")


def welch(a, c):
    """Welch's t of two samples, the slowest tenth of each left out: what the machine did meanwhile."""
    a, c = (np.sort(np.array(v))[:int(0.9 * len(v))] for v in (a, c))
    return float((a.mean() - c.mean()) / np.sqrt(a.var(ddof=1) / len(a) + c.var(ddof=1) / len(c)))


class Asker:
    """One connection that asks with one key after the other and takes the time of each refusal."""

    def __init__(self, address):
        self.s = socket.create_connection(address, timeout=30)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, key):
        request = f"GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        begin = time.perf_counter_ns()
        self.s.sendall(request)
        reply = self.s.recv(65536)
        took = time.perf_counter_ns() - begin
        return reply[9:12], took


def guesses(b):
    """Keys by chance are all refused; and the time of a refusal does not tell how near a key was."""
    count = b.pick(2000, 100_000)
    server = b.serve("--log-level", "error", "--audit", "off")
    key = server.key
    other = {c: "0123456789abcdef"[(int(c, 16) + 1) % 16] for c in "0123456789abcdef"}
    kinds = {
        "first": lambda: key[:21] + other[key[21]] + key[22:],  # of the secret, one digit is wrong: the first
        "last": lambda: key[:-1] + other[key[-1]],              # the last
        "all": lambda: key[:21] + secrets.token_hex(32),        # the id is right, the secret by chance
        "unknown": lambda: f"asc_{secrets.token_hex(8)}_{key[21:]}",  # the other way round
    }
    asker, took, let_in = Asker(server.address), {k: [] for k in kinds}, 0
    names = list(kinds)
    keys = {name: [kinds[name]() for _ in range(count)] for name in names}  # made beforehand: that takes time too
    begin = time.monotonic()
    for i in range(count):
        for name in names[i % 4:] + names[:i % 4]:
            status, ns = asker.ask(keys[name][i])
            took[name].append(ns)
            let_in += status != b"401"
    seconds = time.monotonic() - begin
    t = {f"{a}/{c}": round(welch(took[a], took[c]), 2)
         for a, c in (("first", "last"), ("first", "all"), ("last", "all"))}
    known = round(welch(took["all"], took["unknown"]), 2)
    wrong = b.check(let_in == 0, f"{let_in} guesses were let in")
    worst = max(abs(v) for v in t.values())
    b.note("guesses", asked=4 * count, per_s=round(4 * count / seconds), let_in=let_in, welch_t=t,
           id_known_or_not=known)
    b.check(server.client().get("/v1/info").status == 200, "the right key is taken as before")
    b.end(server)
    b.book("guesses", 4 * count, wrong, welch_t=worst, welch_t_id=known)
