"""test_fault.py - the core of the fault campaigns (tests/fault, docs/reliability.md): a sample of what
`make fault` tries, with a seed that ASCRIBE_SEED changes. A promise that is broken fails here by name.
"""
import json
import os
import subprocess
import sys
import unittest

import harness as h

sys.path.insert(0, os.path.join(h.ROOT, "tests", "fault"))
SEED = int(os.environ.get("ASCRIBE_SEED", "7171"))
PLAIN = h.FLAVOUR in ("", "release")


class Storage(h.Case):
    def campaign(self, kind, *flags, least):
        done = subprocess.run([h.program("fault"), "--seed", str(SEED), *flags, kind], capture_output=True,
                              text=True, timeout=500 * h.SLOW, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr[-4000:])
        found = json.loads(done.stdout)
        self.assertGreaterEqual(found["n"], least)
        self.assertEqual(found["violations"], 0)
        print(f"figure: {kind}: 0 of {found['n']} broke a promise (seed {SEED})")
        return found

    def test_killed_at_calls(self):
        self.campaign("kill", "--stride", "20", least=80)

    def test_errors_at_calls(self):
        found = self.campaign("error", "--stride", "24", least=80)
        self.assertEqual(found["syncs_after_latch"], 0)
        self.assertGreater(found["latched"], 20)

    def test_power_cuts(self):
        found = self.campaign("power", "--limit", "10", "--stride", "8", least=300)
        self.assertGreater(found["torn"], 20)

    def test_flipped_and_swapped(self):
        found = self.campaign("flips", "--limit", "200", least=200)
        self.assertGreater(found["found_by_verify"], 40)

    def test_cut_and_missing_files(self):
        self.campaign("cuts", "--limit", "2", least=80)


@unittest.skipUnless(PLAIN, "a sanitizer's library must be loaded before any other")
class Server(h.Case):
    def test_killed_and_failed_at_calls(self):
        import calls
        n = sum(line["n"] for line in calls.sweep(4, SEED, None, None))
        self.assertGreaterEqual(n, 12)
        print(f"figure: server: 0 of {n} kills, I/O errors and full disks broke a promise (seed {SEED})")

    def test_flips_before_and_under_a_server(self):
        """A sample of served.py; how each answer may differ from brute force is said there."""
        import served
        harmless = n = 0
        for mode, flips in (("closed", 14), ("live", 6), ("recheck", 3)):
            line, wrong = served.campaign(flips, 1e9, SEED, mode, None, None)
            self.assertEqual(wrong, [])
            self.assertEqual(line["n"], flips)
            harmless, n = harmless + line["harmless"], n + flips
            print(f"figure: {mode} store: 0 of {flips} flips, {line['questions']} questions after each, broke a promise (seed {SEED})")
        self.assertLess(harmless, n)

    def test_no_planted_fault_is_in_this_build(self):
        for name in ("ascribed", "ascribe"):
            with open(h.program(name), "rb") as f:
                self.assertNotIn(b"ASCRIBE_PLANT", f.read())


if __name__ == "__main__":
    h.main()
