"""book.py - figures of the benchmark: a line a figure on the terminal, an object a line in
build/bench/results.jsonl, each with the run, the machine and the data it belongs to."""
import json
import os
import platform
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../integration"))
import harness as h  # noqa: E402

MB = 1e6
RESULTS = os.path.join(h.ROOT, "build/bench/results.jsonl")


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def spread(values):
    """p50, p95, min and the number of values, as every timing is told."""
    return {"p50": round(quantile(values, .5), 4), "p95": round(quantile(values, .95), 4),
            "min": round(min(values), 4), "runs": len(values)}


def told(values):
    s = spread(values)
    return f"p50 {s['p50']:9.2f} ms   p95 {s['p95']:9.2f}   min {s['min']:9.2f}   ({s['runs']} runs)"


def machine():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        found = re.search(r"model name\s*:\s*(.*)", f.read())
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(re.search(r"MemTotal:\s*(\d+)", f.read()).group(1)) >> 20
    commit = subprocess.run(["git", "-C", h.ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {"machine": found.group(1) if found else platform.machine(), "cores": os.cpu_count(), "memory_gib": memory,
            "kernel": platform.release(), "commit": commit.stdout.strip() or "unknown",
            "run": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


class Book:
    """Prints and keeps figures. `about` is repeated in every object: a line can be read alone."""

    def __init__(self, **about):
        self.about = {**machine(), **about}
        os.makedirs(os.path.dirname(RESULTS), exist_ok=True)

    def on(self, **more):
        """The same run, other data."""
        other = Book.__new__(Book)
        other.about = {**self.about, **more}
        return other

    def add(self, what, line, **figures):
        if line is not None:
            print(f"  {what:40} {line}", flush=True)
        record = {**self.about, "load1": round(os.getloadavg()[0], 2), "what": what, **figures}
        with open(RESULTS, "a", encoding="utf-8") as f:
            f.write(json.dumps(record) + "\n")
        return record


def title(text):
    print(f"\n{text}", flush=True)
