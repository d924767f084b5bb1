#!/usr/bin/python3
"""run.py - looks for inputs that break a target, and keeps a ledger of what was run.

    tests/fuzz/run.py --build build/fuzz [--target NAME|all] [--seconds N] [--jobs N]

Every target starts from its kept inputs (tests/fuzz/corpus/NAME) and from what earlier runs found
on this machine (build/fuzz/found/NAME). A line a target: executions, rate, inputs. What breaks
one is left in build/fuzz/broken/NAME and makes the run fail; mended, it becomes a kept input. Each
run is a line of tests/fuzz/ledger.jsonl: target, commit, seconds, executions, findings.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LEDGER = os.path.join(HERE, "ledger.jsonl")
# Seconds of the clock that one input may take. On a busy machine a process may just not be running
# for some of them; the longest that was seen is in the ledger ("slowest", whole seconds).
HANG = 30
# libFuzzer keeps what comparisons met in tables without a lock; where the target has threads of its own
# they race with its own use of them, in its own code.
THREADED = {"request"}
MAX_LEN = {"http": 20000, "matrix": 8192, "ckpt": 65536, "text": 16384}


def targets():
    return sorted(os.path.basename(p)[5:-2] for p in glob.glob(os.path.join(HERE, "*/fuzz_*.c")))


def commit():
    out = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                         text=True)
    return out.stdout.strip() or "unknown"


def waited_only(program, broken):
    """Are all that it left inputs that took long by the clock and no second of processor time?"""
    left = glob.glob(os.path.join(broken, "[!s]*"))  # slow-unit-... are no findings
    for path in left:
        if not os.path.basename(path).startswith("timeout-"):
            return False
        before = os.times().children_user + os.times().children_system
        if subprocess.run([program, "-timeout=1000", path], capture_output=True, check=False).returncode:
            return False
        if os.times().children_user + os.times().children_system - before > 1:
            return False
    for path in left:
        os.remove(path)
    return bool(left)


def found_at(text):
    """Where the report of a finding begins: at a property that does not hold, or at the sanitizer's word."""
    found = re.search(r"^.*does not hold: |ERROR: ", text, re.M)
    return found.start() if found else 0


def fuzz(name, build, seconds, seed):
    found = os.path.join(ROOT, build, "found", name)
    broken = os.path.join(ROOT, build, "broken", name)
    os.makedirs(found, exist_ok=True)
    os.makedirs(broken, exist_ok=True)
    kept = os.path.join(HERE, "corpus", name)
    words = os.path.join(HERE, "words", name)
    command = [os.path.join(ROOT, build, "fuzz", "fuzz_" + name), found]
    command += [kept] if os.path.isdir(kept) else []
    command += [f"-dict={words}"] if os.path.exists(words) else []
    command += ["-use_cmp=0"] if name in THREADED else []
    command += [f"-max_total_time={seconds}", f"-max_len={MAX_LEN.get(name, 4096)}", f"-timeout={HANG}",
                "-rss_limit_mb=2048", f"-seed={seed}", f"-artifact_prefix={broken}/",
                "-print_final_stats=1", "-detect_leaks=1"]
    env = dict(os.environ, LSAN_OPTIONS="suppressions=" + os.path.join(ROOT, "tests/lsan.supp"),
               ASAN_OPTIONS="quarantine_size_mb=8:malloc_context_size=4")
    begin = time.monotonic()
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True,
                         errors="replace")
    took = time.monotonic() - begin
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", run.stderr)
    slowest = re.search(r"stat::slowest_unit_time_sec:\s*(\d+)", run.stderr)
    cover = re.findall(r"cov: (\d+)", run.stderr)
    return {"target": name, "commit": commit(), "seed": seed, "seconds": round(took, 1),
            "executions": int(count.group(1)) if count else 0,
            "slowest": int(slowest.group(1)) if slowest else None,
            "edges": int(cover[-1]) if cover else 0, "findings": int(run.returncode != 0 and not waited_only(command[0], broken)),
            }, run.stderr[found_at(run.stderr):][:6000]


def main():
    parser = argparse.ArgumentParser(description="Fuzzes the readers of the product.")
    parser.add_argument("--build", default="build/fuzz")
    parser.add_argument("--target", default="all")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default 60)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="0: of the clock")
    args = parser.parse_args()
    names = targets() if args.target == "all" else args.target.split(",")
    unknown = [n for n in names if n not in targets()]
    if unknown:
        sys.exit(f"no target {unknown[0]}; there are: {', '.join(targets())}")
    seed = args.seed or int(time.time()) & 0x7FFFFFFF
    worst = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(fuzz, n, args.build, args.seconds, seed) for n in names]
        for done in concurrent.futures.as_completed(runs):
            line, text = done.result()
            rate = line["executions"] / max(line["seconds"], 0.1)
            print(f"{line['target']:12} {line['executions']:12,} executions {rate:10,.0f}/s "
                  f"{line['edges']:6} edges  {'FOUND' if line['findings'] else 'ok'}", flush=True)
            if line["findings"] or not line["executions"]:
                worst = 1
                print(text)
            with open(LEDGER, "a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
    sys.exit(worst)


if __name__ == "__main__":
    main()
