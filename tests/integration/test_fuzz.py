"""The inputs that fuzzing started from and those it found (tests/fuzz/corpus), each run through its
reader by the program that this build made of the target: none ends the process, every property of
fuzz_*.c holds. One test a target."""
import glob
import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("ASCRIBE_BUILD", "build/release"))


class Replay(unittest.TestCase):
    def replay(self, name):
        kept = os.path.join(ROOT, "tests/fuzz/corpus", name)
        run = subprocess.run([os.path.join(BUILD, "fuzz", "replay_" + name), kept], timeout=60,
                             capture_output=True, text=True, errors="replace")
        self.assertEqual(run.returncode, 0, run.stderr[-2000:])
        ran = int(re.fullmatch(r"(\d+) inputs\n", run.stdout).group(1))
        self.assertEqual(ran, len(os.listdir(kept)))
        return ran


def add(name):
    setattr(Replay, "test_" + name, lambda self: self.replay(name) and None)


for path in glob.glob(os.path.join(ROOT, "tests/fuzz/*/fuzz_*.c")):
    add(os.path.basename(path)[len("fuzz_"):-len(".c")])
