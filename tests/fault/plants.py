#!/usr/bin/python3
"""plants.py - do the tests see anything? Faults are planted on purpose, one after the other, and the
test that is named for each must fail.

    plants.py --build DIR [--only NAME] [--jobs N] [--book FILE]   (a build of FLAVOUR=plant: `make plants`)

Every test passes first with no fault on: what fails always catches nothing. The list of faults is that
of storage/base/plant.h; one without a test here is a failure too.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

import ledger as l

ROOT = l.h.ROOT


def fault(*words):
    return ("fault", *words)


def unit(name):
    return ("unit/" + name,)


def integration(name):
    return ("python", name)


TESTS = {
    "LEDGER_UNSYNCED": fault("--limit", "10", "--stride", "10", "power"),
    "SHARD_UNSYNCED": fault("--limit", "10", "--stride", "10", "power"),
    "SHARD_DIR_UNSYNCED": fault("--limit", "10", "--stride", "10", "power"),
    "NAME_UNSYNCED": fault("--limit", "10", "--stride", "10", "power"),
    "COPY_UNSYNCED": fault("--limit", "10", "--stride", "10", "power"),
    "SYNC_RETRIED": fault("--stride", "24", "error"),
    "SYNC_FORGIVEN": unit("storage/test_fault"),
    "ACKED_EARLY": fault("--stride", "60", "kill"),
    "PUBLISHED_EARLY": unit("storage/test_fault"),
    "BATCH_FORGOTTEN": unit("storage/test_commit"),
    "DELETE_FORGOTTEN": fault("--stride", "60", "kill"),
    "TOMBSTONE_LEFT": unit("storage/test_rewrite"),
    "STALE_TAKEN": unit("storage/test_rewrite"),
    "SUM_UNCHECKED": fault("--limit", "60", "flips"),
    "PLACE_UNCHECKED": unit("storage/test_maintain"),
    "RECORD_UNCHECKED": unit("storage/test_damage"),
    "PAGES_UNCHECKED": unit("storage/test_pages"),
    "LOCK_IGNORED": unit("storage/test_store"),
    "TIES_TURNED": unit("index/test_topk"),
    "BOUND_TIGHT": unit("index/test_bound"),
    "MARGIN_TRUSTED": unit("index/test_flat"),
    "NAN_TAKEN": unit("index/test_vec"),
    "SCOPE_IGNORED": integration("test_doors.Door.test_wrong_scope"),
    "PRODUCT_WRAPS": unit("server/test_safetensors"),
    "DEPTH_UNBOUND": unit("server/test_json"),
    "EXPIRED_TAKEN": unit("server/test_auth"),
}


def planted():
    """{name: what it does} by the header."""
    with open(os.path.join(ROOT, "storage/base/plant.h")) as f:
        return dict(re.findall(r'X\((\w+), "([^"]*)"\)', f.read()))


def run(build, test, plant):
    """True when the test passed."""
    env = dict(os.environ, ASCRIBE_BUILD=build, PYTHONDONTWRITEBYTECODE="1")
    env.pop("ASCRIBE_PLANT", None)
    if plant:
        env["ASCRIBE_PLANT"] = plant
    if test[0] == "python":
        env["PYTHONPATH"] = os.path.join(ROOT, "tests/integration")
        command = [sys.executable, "-m", "unittest", test[1]]
    else:
        command = [os.path.join(ROOT, build, test[0]), *test[1:]]
    try:
        return subprocess.run(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=600).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main():
    parser = argparse.ArgumentParser(description="Plants faults and sees whether the tests catch them.")
    parser.add_argument("--build", default="build/plant")
    parser.add_argument("--only")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--book", help="append the score to this file")
    args = parser.parse_args()
    faults = {k: v for k, v in planted().items() if not args.only or k == args.only}
    for name in set(planted()) ^ set(TESTS):
        sys.exit(f"{name}: named in storage/base/plant.h or in plants.py alone")
    begin, caught = time.monotonic(), 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        sound = {test: pool.submit(run, args.build, test, None) for test in sorted({TESTS[n] for n in faults})}
        fails = {name: pool.submit(run, args.build, TESTS[name], name) for name in faults}
        for name, what in faults.items():
            good = sound[TESTS[name]].result() and not fails[name].result()
            caught += good
            word = "caught" if good else "MISSED" if sound[TESTS[name]].result() else "NO TEST (it fails without a fault)"
            print(f"{word}  {name:20} {what}: {' '.join(TESTS[name])}", flush=True)
    print(f"figure: {caught} of {len(faults)} planted faults caught", flush=True)
    if not args.only:
        l.record("plants", 0, len(faults), len(faults) - caught, time.monotonic() - begin, args.book, caught=caught)
    return 0 if caught == len(faults) and faults else 1


if __name__ == "__main__":
    sys.exit(main())
