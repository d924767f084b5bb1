"""test_hardening.py - what was built, looked at from outside: how the programs were compiled and linked
(what `checksec` looks at, by readelf), and the bill of materials against what they really load.
"""
import hashlib
import json
import os
import platform
import re
import subprocess
import unittest

import harness as h
from harness import BUILD, ROOT, Case, program

PROGRAMS = ("ascribed", "ascribe", "ascribe-lm", "libascribe.so.1")
# Calls that FORTIFY_SOURCE cannot bound and this house does not need.
NEVER = {"gets", "strcpy", "strcat", "sprintf", "vsprintf", "mktemp", "tmpnam", "tempnam", "system", "popen", "rand"}


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], capture_output=True, text=True, check=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout


@unittest.skipIf(h.FLAVOUR, "a build with sanitizers is hardened otherwise")
class Elf(Case):
    def each(self):
        return [program(name) for name in PROGRAMS]

    def test_position_independent(self):
        for path in self.each():
            self.assertRegex(readelf("-h", path), r"Type:\s+DYN")
            if not path.endswith(".1"):
                self.assertRegex(readelf("-d", path), r"FLAGS_1\).*\bPIE\b")

    def test_relocations_are_read_only_before_main(self):
        for path in self.each():
            dynamic = readelf("-d", path)
            self.assertIn("GNU_RELRO", readelf("-l", path))
            self.assertRegex(dynamic, r"BIND_NOW|FLAGS_1\).*\bNOW\b")
            self.assertNotIn("TEXTREL", dynamic)

    def test_nothing_is_writable_and_executable(self):
        for path in self.each():
            segments = re.findall(r"^\s+(LOAD|GNU_STACK)\s.*?\s([R ][W ][E ])\s+0x", readelf("-l", path), re.M)
            self.assertIn("GNU_STACK", [kind for kind, _ in segments])
            for kind, mode in segments:
                self.assertFalse("W" in mode and "E" in mode, f"{kind} {mode}")
                if kind == "GNU_STACK":
                    self.assertNotIn("E", mode)

    def test_libraries_come_from_the_system_alone(self):
        for path in self.each():
            self.assertNotRegex(readelf("-d", path), r"RPATH|RUNPATH")

    def test_stack_protector_and_fortify(self):
        for path in self.each():
            symbols = set(re.findall(r"\bUND (\w+)", readelf("--dyn-syms", path)))
            self.assertIn("__stack_chk_fail", symbols)
            self.assertGreaterEqual(len([s for s in symbols if re.match(r"__\w+_chk$", s)]), 3, symbols)
            self.assertEqual(symbols & NEVER, set())

    @unittest.skipUnless(platform.machine() == "x86_64", "control-flow marks are looked for on x86-64")
    def test_control_flow_marks(self):
        """Every object of ours is marked for IBT and shadow stacks; the whole program is, once its distribution's
        start files and libraries are."""
        marked = 0
        for folder in ("server", "storage", "storage/base", "index", "client", "client/cli", "client/lm"):
            here = os.path.join(BUILD, folder)
            for name in os.listdir(here):
                if name.endswith(".o"):
                    self.assertRegex(readelf("-n", os.path.join(here, name)), r"x86 feature: IBT, SHSTK", name)
                    marked += 1
        self.assertGreater(marked, 150)

    def test_symbols_of_the_library_are_its_own(self):
        exported = set(re.findall(r"(?:FUNC|OBJECT)\s+GLOBAL\s+DEFAULT\s+\d+ (\w+)",
                                  readelf("--dyn-syms", program("libascribe.so.1"))))
        self.assertGreater(len(exported), 40)
        self.assertEqual({s for s in exported if not s.startswith("asc_")}, set())


@unittest.skipIf(h.FLAVOUR, "a bill of materials is of what is released")
class Sbom(Case):
    @classmethod
    def setUpClass(cls):
        cls.text = cls.make()
        cls.doc = json.loads(cls.text)

    @staticmethod
    def make():
        done = subprocess.run([os.path.join(ROOT, "docs/ops/sbom.py"), BUILD, "0.1.0"], capture_output=True, text=True,
                              env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def test_the_same_build_gives_the_same_bytes(self):
        self.assertEqual(self.make(), self.text)
        self.assertNotIn(ROOT, self.text)

    def test_it_is_spdx(self):
        """The members that SPDX 2.3 requires, of the forms that it requires."""
        d = self.doc
        self.assertEqual((d["spdxVersion"], d["dataLicense"], d["SPDXID"]), ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT"))
        self.assertRegex(d["documentNamespace"], r"^https://[^#]+$")
        self.assertEqual(d["creationInfo"]["created"], "2023-11-14T22:13:20Z")
        self.assertTrue(all(re.match(r"(Tool|Person|Organization): ", c) for c in d["creationInfo"]["creators"]))
        ids = [x["SPDXID"] for x in d["packages"] + d["files"]]
        self.assertEqual(len(ids), len(set(ids)))
        for i in ids:
            self.assertRegex(i, r"^SPDXRef-[A-Za-z0-9.-]+$")
        for p in d["packages"]:
            self.assertTrue(p["name"] and p["versionInfo"] and p["downloadLocation"])
            self.assertIn("licenseConcluded", p)
            if p["filesAnalyzed"]:
                sums = sorted(c["checksumValue"] for f in d["files"] for c in f["checksums"] if c["algorithm"] == "SHA1")
                self.assertEqual(p["packageVerificationCode"]["packageVerificationCodeValue"],
                                 hashlib.sha1("".join(sums).encode()).hexdigest())
            else:
                (ref,) = p["externalRefs"]
                self.assertRegex(ref["referenceLocator"], r"^pkg:deb/[a-z]+/[A-Za-z0-9.%-]+@[^?+]+\?arch=\w+&distro=\S+$")
        for r in d["relationships"]:
            self.assertIn(r["spdxElementId"], ids + ["SPDXRef-DOCUMENT"])
            self.assertIn(r["relatedSpdxElement"], ids)
        reached = {r["relatedSpdxElement"] for r in d["relationships"]} | {r["spdxElementId"] for r in d["relationships"]}
        self.assertEqual(set(ids) - reached, set())

    def test_checksums(self):
        self.assertEqual([f["fileName"] for f in self.doc["files"]], ["./" + n for n in PROGRAMS])
        for f in self.doc["files"]:
            with open(os.path.join(BUILD, f["fileName"]), "rb") as binary:
                data = binary.read()
            for c in f["checksums"]:
                self.assertEqual(c["checksumValue"], hashlib.new(c["algorithm"].lower(), data).hexdigest())

    def test_every_library_that_is_loaded_is_in_it(self):
        names = {p["name"] for p in self.doc["packages"]}
        for package in ("liblmdb0", "libuv1", "libsodium23", "libjansson4", "libsqlite3-0", "libzstd1", "libcurl4",
                        "libc6", "node-llhttp", "libfaiss-dev"):
            self.assertIn(package, names)
        needed = {lib for name in PROGRAMS for lib in re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", program(name)))}
        done = subprocess.run(["dpkg-query", "-S", *("*/" + lib for lib in needed)], capture_output=True, text=True)
        owned = [line.split(": ", 1) for line in done.stdout.splitlines()]
        for lib in needed:
            owners = {package.split(":")[0] for package, path in owned if os.path.basename(path) == lib}
            self.assertTrue(owners & names, f"{lib} of {owners}")


if __name__ == "__main__":
    h.main()
