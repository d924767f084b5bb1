"""The quick form of `make net` (tests/net): request smuggling beside Node's parser, drains under load,
overload, and a good client beside crowds of bad ones. Bounds, not times, are judged."""
import os
import re
import subprocess
import sys
import unittest

import harness as h

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Hostile(unittest.TestCase):
    def part(self, name, figure):
        run = subprocess.run([sys.executable, os.path.join(ROOT, "tests/net/run.py"), "--quick", "--build",
                              os.environ.get("ASCRIBE_BUILD", "build/release"), "--only", name],
                             capture_output=True, text=True, timeout=300 * h.SLOW)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertRegex(run.stdout, figure)
        print("figure: " + re.search("^.*" + figure + ".*$", run.stdout, re.M).group(0))

    def test_smuggling(self):
        self.part("smuggle", r"cases 69 ")

    def test_drains(self):
        self.part("drains", r"cut 0 .* bad_exits 0")

    def test_overload(self):
        self.part("overload", r"times 10 .* other \{\}")

    def test_beside(self):
        self.part("beside", r"manner flood")
