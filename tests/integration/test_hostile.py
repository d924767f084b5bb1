"""The quick form of `make net` (tests/net): request smuggling beside other parsers, drains under load,
overload, broken exchanges, a bad network, guessed keys, and a good client beside crowds of bad ones.
Promises are judged, not times."""
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
        self.part("smuggle", r"named 438 ")

    def test_drains(self):
        self.part("drains", r"cut 0 .* bad_exits 0")

    def test_overload(self):
        self.part("overload", r"times 10 .* other \{\}")

    def test_aborts(self):
        self.part("aborts", r"descriptors_left [012] ")

    def test_network(self):
        self.part("network", r"examples 2000  duplicates 0  wrong 0")

    def test_guesses(self):
        self.part("guesses", r"let_in 0 ")

    def test_beside(self):
        self.part("beside", r"manner guess")
