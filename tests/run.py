#!/usr/bin/python3
"""run.py - runs every test there is: the C programs of tests/unit, then tests/integration.

    tests/run.py --build DIR [--flavour asan|ubsan|tsan] [--only PATTERN] [--jobs N]

Each test file is a process of its own with a time limit. One line a file with its counts and
seconds, the output of what failed, and as the last line `N passed, N failed, N skipped`. Exits 1
when anything failed, or when nothing ran: a test program that is missing, crashes, hangs or runs no
test is a failure. Under tsan only what has threads of interest runs (the unit tests,
test_concurrent.py and test_shared.py): a race found by ten clients is not found better by curl.
"""
import argparse
import concurrent.futures
import fnmatch
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = "/usr/bin/python3"
UNIT_LIMIT, INTEGRATION_LIMIT = 120, 600  # seconds a file, before scaling
SCALE = {None: 1, "asan": 3, "ubsan": 2, "tsan": 10}
# These measure times or use both cores themselves: they run when nothing else does.
ALONE = {"test_crash.py", "test_concurrent.py", "test_eval_quick.py", "test_shared.py"}
TSAN_ONLY = {"test_concurrent.py", "test_shared.py"}


class Result:
    """Counts of one file, and its output when there is something to show."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped = name, 0, 0, 0
        self.seconds, self.output, self.notes = 0.0, "", []

    def fail(self, note):
        self.failed += 1
        self.notes.append(note)


def environment(build, flavour):
    env = dict(os.environ, ASCRIBE_BUILD=build, ASCRIBE_FLAVOUR=flavour or "",
               CMOCKA_MESSAGE_OUTPUT="TAP", PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8")
    env.pop("ASCRIBE_KEY", None)  # a key of the person who runs the tests is not the tests' key
    here = os.path.join(ROOT, "tests")
    if flavour:
        env["ASAN_OPTIONS"] = "detect_leaks=1:abort_on_error=0:allocator_may_return_null=1"
        env["LSAN_OPTIONS"] = f"suppressions={here}/lsan.supp:print_suppressions=0"
        env["UBSAN_OPTIONS"] = "print_stacktrace=1"
        env["TSAN_OPTIONS"] = f"suppressions={here}/tsan.supp:print_suppressions=0:second_deadlock_stack=1"
    return env


def run(command, env, limit):
    """(exit code or None on timeout, output). The whole process group ends with the time limit."""
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    try:
        out, _ = process.communicate(timeout=limit)
        return process.returncode, out.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        return None, out.decode("utf-8", "replace")


def finish(result, code, limit):
    """What the exit code says beyond the counts."""
    ran = result.passed + result.failed + result.skipped
    if code is None:
        result.fail(f"timed out after {limit:.0f} s")
    elif code < 0:
        result.fail(f"killed by {signal.Signals(-code).name}")
    elif code != 0 and not result.failed:
        result.fail(f"exit code {code}")
    elif ran == 0:
        result.fail("ran no test")
    return result


def run_unit(job, build, flavour, env):
    source, program = job
    result = Result(os.path.relpath(source, os.path.join(ROOT, "tests")))
    begin, limit = time.monotonic(), UNIT_LIMIT * SCALE[flavour]
    if not os.access(program, os.X_OK):
        result.fail(f"{program} is not built")
        return result
    code, result.output = run([program], env, limit)
    # cmocka's TAP: "ok 1 - name", "not ok 2 - name", "ok 3 # SKIP name" or "not ok 3 # SKIP"
    for line in result.output.splitlines():
        found = re.match(r"(not )?ok \d+\b(.*)", line)
        if not found:
            continue
        if "# SKIP" in found.group(2):
            result.skipped += 1
        elif found.group(1):
            result.fail(line)
        else:
            result.passed += 1
    finish(result, code, limit)
    result.seconds = time.monotonic() - begin
    return result


def run_integration(path, build, flavour, env):
    result = Result(os.path.relpath(path, os.path.join(ROOT, "tests")))
    begin, limit = time.monotonic(), INTEGRATION_LIMIT * SCALE[flavour]
    name = os.path.splitext(os.path.basename(path))[0]
    env = dict(env, PYTHONPATH=os.path.dirname(path))
    code, result.output = run([PYTHON, "-m", "unittest", "-v", name], env, limit)
    ran = re.search(r"^Ran (\d+) tests? in", result.output, re.M)
    tally = re.search(r"^(?:OK|FAILED)(?: \((.*)\))?$", result.output, re.M)
    counts = dict(re.findall(r"([a-z ]+)=(\d+)", (tally and tally.group(1)) or ""))
    counts = {k.strip(): int(v) for k, v in counts.items()}
    bad = counts.get("failures", 0) + counts.get("errors", 0) + counts.get("unexpected successes", 0)
    for line in re.findall(r"^(?:FAIL|ERROR): .*$", result.output, re.M)[:bad]:
        result.notes.append(line)
    result.failed += bad
    result.skipped = counts.get("skipped", 0)
    # An error of setUpClass counts as an error but its tests as not run: never below zero.
    result.passed = max(0, int(ran.group(1)) - result.skipped - bad) if ran else 0
    finish(result, code, limit)
    result.seconds = time.monotonic() - begin
    return result


def collect(build, flavour, only):
    """([unit jobs], [integration files]) after --only and the flavour's choice."""
    def wanted(path):
        name = os.path.relpath(path, os.path.join(ROOT, "tests"))
        return not only or fnmatch.fnmatch(name, f"*{only}*")

    units = []
    for source in sorted(glob.glob(os.path.join(ROOT, "tests/unit/*/test_*.c"))):
        layer = os.path.basename(os.path.dirname(source))
        program = os.path.join(ROOT, build, "unit", layer, os.path.basename(source)[:-2])
        units.append((source, program))
    files = sorted(glob.glob(os.path.join(ROOT, "tests/integration/test_*.py")))
    if flavour == "tsan":
        files = [f for f in files if os.path.basename(f) in TSAN_ONLY]
    return [u for u in units if wanted(u[0])], [f for f in files if wanted(f)]


class Report:
    """Prints each file as it ends; keeps the sum."""

    def __init__(self):
        self.lock, self.results = threading.Lock(), []

    def add(self, r):
        with self.lock:
            self.results.append(r)
            word = "FAIL" if r.failed else "ok"
            skips = f", {r.skipped} skipped" if r.skipped else ""
            fails = f", {r.failed} failed" if r.failed else ""
            print(f"{word:4}  {r.name:44} {r.passed:5} passed{fails}{skips}  {r.seconds:6.1f} s", flush=True)
            for note in r.notes:
                print(f"      {note}")
            if r.failed:
                for line in r.output.splitlines()[-200:]:
                    print(f"      | {line}")
            else:  # figures that tests print for the reader
                for line in re.findall(r"(?:^|\.\.\. )figure: (.*)$", r.output, re.M):
                    print(f"      {line}")
            sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description="Runs all tests of a build.")
    parser.add_argument("--build", default="build/release", help="build folder (default build/release)")
    parser.add_argument("--flavour", choices=["release", "asan", "ubsan", "tsan"])
    parser.add_argument("--only", help="part of a file's name, or a shell pattern")
    parser.add_argument("--jobs", type=int, default=2, help="files at a time (default 2)")
    args = parser.parse_args()
    flavour = None if args.flavour == "release" else args.flavour
    env, report = environment(args.build, flavour), Report()
    units, files = collect(args.build, flavour, args.only)
    begin = time.monotonic()

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(run_unit, u, args.build, flavour, env) for u in units]
        jobs += [pool.submit(run_integration, f, args.build, flavour, env) for f in files
                 if os.path.basename(f) not in ALONE]
        for done in concurrent.futures.as_completed(jobs):
            report.add(done.result())
    for f in files:
        if os.path.basename(f) in ALONE:
            report.add(run_integration(f, args.build, flavour, env))

    passed, failed, skipped = (sum(getattr(r, w) for r in report.results)
                               for w in ("passed", "failed", "skipped"))
    print(f"{len(report.results)} files in {time.monotonic() - begin:.0f} s")
    if not passed and not failed:
        print("nothing ran")
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
