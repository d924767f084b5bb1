#!/usr/bin/python3
"""plants.py - do the tests see anything? Faults are planted on purpose, one after the other, and the
test that is named for each must fail.

    plants.py --build DIR [--only NAME]      (a build of FLAVOUR=plant: `make plants`)

Every test passes first with no fault on: what fails always catches nothing. The list of faults is that
of storage/base/plant.h; one without a test here is a failure too.
"""
import argparse
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


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


def name_of(test):
    return " ".join(test)


def main():
    parser = argparse.ArgumentParser(description="Plants faults and sees whether the tests catch them.")
    parser.add_argument("--build", default="build/plant")
    parser.add_argument("--only")
    args = parser.parse_args()
    faults = {k: v for k, v in planted().items() if not args.only or k == args.only}
    for name in set(planted()) ^ set(TESTS):
        sys.exit(f"{name}: named in storage/base/plant.h or in plants.py alone")
    sound, caught = {}, 0
    for name, what in faults.items():
        test, begin = TESTS[name], time.monotonic()
        if test not in sound:
            sound[test] = run(args.build, test, None)
        good = sound[test] and not run(args.build, test, name)
        caught += good
        word = "caught" if good else "MISSED" if sound[test] else "NO TEST (it fails without a fault)"
        print(f"{word}  {name:20} {what}: {name_of(test)}  {time.monotonic() - begin:.1f} s", flush=True)
    print(f"figure: {caught} of {len(faults)} planted faults caught", flush=True)
    return 0 if caught == len(faults) and faults else 1


if __name__ == "__main__":
    sys.exit(main())
