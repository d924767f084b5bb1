"""contend.py - contenders, asked turn by turn.

A contender is a process that holds the rows and answers lines (bench_engine.c, peers/). All are asked
the same queries in turn, one at a time, so that the noise of the machine meets all alike; each times
its own search. A contender that cannot be had (no registry, no package) is named and left out.
"""
import json
import os
import re
import subprocess
import sys
import time

import book
from book import h

HERE = os.path.dirname(os.path.abspath(__file__))
NPM = os.path.join(h.ROOT, "build/bench/npm")
STRIDE = 37  # from one query to the next: neighbours in the list are alike
PAUSE = 0.01  # seconds between turns: OpenMP's threads spin for a while after a search


class Contender:
    def __init__(self, name, command, env=None):
        """`env`: changes to the environment; None as a value removes one."""
        self.name = name
        full = {**os.environ, **(env or {})}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={k: v for k, v in full.items() if v is not None})
        self.ready = self.read()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.name}: ended with {self.process.wait()}")

    def ask(self, engine, first, count, k, opponents=0):
        self.process.stdin.write(f"{engine} {first} {count} {k} {opponents}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Entry:
    """A column of the table: a name, who answers, under which engine word, and how often."""

    def __init__(self, name, contender, engine, most=10**9, opponents=0):
        self.name, self.contender, self.engine, self.most, self.opponents = name, contender, engine, most, opponents
        self.reset()

    def reset(self):
        self.ms, self.same, self.lists, self.work = [], 0, 0, {}


def ours(data, made=None, env=None, threads=None, name="ascribe"):
    """bench_engine over Data, or over made-up rows: made = (rows, dim, queries)."""
    command = [os.path.join(h.BUILD, "bench_engine")]
    if made:
        command += ["--count", str(made[0]), "--dim", str(made[1]), "--asked", str(made[2])]
    else:
        command += ["--rows", data.rows, "--queries", data.queries, "--dim", str(data.dim)]
    return Contender(name, command + (["--threads", str(threads)] if threads else []), env)


# ---- peers -----------------------------------------------------------------------------------------

def other_core():
    """An OPENBLAS_CORETYPE to set beside the detected one: the environment's, else a plainer one."""
    if os.environ.get("OPENBLAS_CORETYPE"):
        return os.environ["OPENBLAS_CORETYPE"]
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        flags = re.search(r"flags\s*:\s*(.*)", f.read())
    return "SKYLAKEX" if flags and " avx512f " in flags.group(1) else "HASWELL"


def npm_install():
    """The pinned packages under build/bench/npm; None or why not."""
    wanted = open(os.path.join(HERE, "peers/package.json"), encoding="utf-8").read()
    there = os.path.join(NPM, "package.json")
    done = os.path.join(NPM, "complete")
    if not (os.path.exists(done) and open(there, encoding="utf-8").read() == wanted):
        os.makedirs(NPM, exist_ok=True)
        with open(there, "w", encoding="utf-8") as f:
            f.write(wanted)
        try:
            r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"],
                               cwd=NPM, capture_output=True, text=True, timeout=240)
        except (OSError, subprocess.TimeoutExpired) as e:
            return f"npm: {e}"
        if r.returncode:
            return f"npm install: exit {r.returncode}: {r.stderr.strip()[-200:]}"
        open(done, "w", encoding="utf-8").close()
    return None


PEERS = ("faiss", "faiss-core", "python3-faiss", "usearch", "lancedb")


def peers(data, want=PEERS):
    """Entries of all peers that can be had; says which cannot, and why."""
    out = []

    def add(name, make, engine="faiss", most=10**9):
        try:
            out.append(Entry(name, make(), engine, most))
        except (RuntimeError, OSError) as e:
            print(f"  {name}: not here: {e}", flush=True)

    flat = ["--rows", data.rows, "--queries", data.queries, "--dim", str(data.dim)]
    if "faiss" in want:
        add("FAISS", lambda: ours(data, env={"OPENBLAS_CORETYPE": None}, name="FAISS"))
    if "faiss-core" in want:
        core = other_core()
        add(f"FAISS, {core}", lambda: ours(data, env={"OPENBLAS_CORETYPE": core}, name="FAISS"))
    if "python3-faiss" in want:
        add("python3-faiss", lambda: Contender("python3-faiss", ["/usr/bin/python3", os.path.join(HERE, "peers/faiss_flat.py"), *flat],
                                               {"OPENBLAS_CORETYPE": None}))
    if "usearch" in want or "lancedb" in want:
        why = npm_install()
        if why:
            print(f"  USearch, LanceDB: not here: {why}", flush=True)
        else:
            env = {"NODE_PATH": NPM + "/node_modules", "LANCE_LOG": "error"}
            node = lambda name, *more: ["node", "--max-old-space-size=8192", os.path.join(HERE, f"peers/{name}.js"), *flat, *more]
            if "usearch" in want:
                add("USearch", lambda: Contender("USearch", node("usearch"), env))
            if "lancedb" in want:
                add("LanceDB", lambda: Contender("LanceDB", node("lancedb", "--table", data.where + "/lance"), env), most=5)
    return out


# ---- a contest ---------------------------------------------------------------------------------------

def close(entries):
    for c in {e.contender for e in entries}:
        c.close()


def agree(entry, oracle, answer):
    """Counts lists that name the same rows in the same order; for ours, scores to the bit as well."""
    for n, ids in enumerate(answer["ids"]):
        entry.lists += 1
        same = ids == oracle["ids"][n]
        if entry.contender.name == "ascribe" and entry.engine != "faiss":
            same = same and answer["scores"][n] == oracle["scores"][n]
        if entry.opponents:
            same = same and all(answer[x][n] == oracle[x][n] for x in ("low_ids", "low_scores"))
        entry.same += same


def contest(entries, oracle, queries, rounds, batch, k):
    """Each round: other `batch` queries, asked of every entry in turn; single ones from all over the list. `oracle` is an Entry whose
    answers are the right ones; it may be one of them. Round 0 warms up and does not count."""
    truth = {}
    for e in entries:
        e.reset()
    for r in range(rounds + 1):
        first = (r * batch if batch > 1 else r * STRIDE) % (queries - batch + 1)
        if first not in truth and oracle not in entries:
            truth[first] = oracle.contender.ask(oracle.engine, first, batch, k, oracle.opponents)
        for e in [oracle] * (oracle in entries) + [e for e in entries if e is not oracle]:
            if len(e.ms) >= e.most and (e is not oracle or first in truth):
                continue
            time.sleep(PAUSE)
            answer = e.contender.ask(e.engine, first, batch, k, e.opponents)
            truth.setdefault(first, answer)
            if r == 0 or len(e.ms) >= e.most:
                continue
            e.ms.append(answer["ms"])
            agree(e, truth[first], answer)
            for name, value in answer.get("work", {}).items():
                e.work[name] = e.work.get(name, 0) + value


def tell(book_, entries, against, **about):
    """A line and an object an entry, with its ratio to each of `against` (by name)."""
    base = {e.name: book.quantile(e.ms, .5) for e in entries if e.name in against and e.ms}
    for e in entries:
        if not e.ms:
            continue
        p50 = book.quantile(e.ms, .5)
        times = {name: round(p / p50, 2) for name, p in base.items() if name != e.name}
        work = {name: round(value / max(1, e.lists), 2) for name, value in e.work.items()}
        ratio = "   ".join(f"{t:.1f}x {name}" for name, t in times.items())
        book_.add(e.name, f"{book.told(e.ms)}   same answers {e.same}/{e.lists}   {ratio}",
                  engine=e.name, version=e.contender.ready.get("version"), ms=book.spread(e.ms), same=e.same, lists=e.lists,
                  faster_than=times, work_a_query=work, **about)
