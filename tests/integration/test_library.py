"""test_library.py - libascribe as others meet it: the documented program compiles as C and as C++ and
runs; the shared library shows exactly what the header declares, and needs nothing else of ascribe."""
import os
import re
import shutil
import subprocess
import unittest

import harness

HEADER = os.path.join(harness.ROOT, "client", "ascribe.h")
FLAVOURS = {"asan": ["-fsanitize=address"], "ubsan": ["-fsanitize=undefined"],
            "tsan": ["-fsanitize=thread"]}


def declared():
    """Names of the functions that the header declares."""
    with open(HEADER, encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    return set(re.findall(r"^(?:[a-z_0-9]+ )+\**(asc_\w+)\(", text, re.M))


class TestLibrary(harness.ServerCase):
    def program_text(self):
        with open(os.path.join(harness.ROOT, "docs", "libascribe.md"), encoding="utf-8") as f:
            text = f.read()
        (program,) = re.findall(r"```c\n(.*?)```", text, re.S)
        expected = re.search(r"prints\n```\n(.*?)```", text, re.S).group(1)
        return program, expected

    def build_and_run(self, compiler, suffix, libraries):
        if not shutil.which(compiler):
            self.skipTest(f"there is no {compiler}")
        program, expected = self.program_text()
        folder = self.scratch()
        source, binary = os.path.join(folder, "p" + suffix), os.path.join(folder, "p")
        with open(source, "w", encoding="utf-8") as f:
            f.write(program)
        flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", os.path.dirname(HEADER)]
        subprocess.run([compiler, *flags, *FLAVOURS.get(harness.FLAVOUR, []), "-o", binary, source,
                        *libraries], check=True, timeout=120)
        env = dict(os.environ, ASCRIBE_SERVER=self.server.url, ASCRIBE_KEY=self.server.key,
                   LD_LIBRARY_PATH=harness.BUILD)
        for _ in range(2):  # the second time everything stands already
            done = subprocess.run([binary], env=env, capture_output=True, text=True,
                                  timeout=60 * harness.SLOW)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, expected, ""))

    def test_documented_program_in_c_with_the_archive(self):
        self.build_and_run("gcc", ".c", [os.path.join(harness.BUILD, "libascribe.a"), "-lcurl",
                                         "-ljansson", "-lxxhash", "-pthread"])

    def test_documented_program_in_cpp_with_the_shared_library(self):
        self.build_and_run("g++", ".cpp", ["-Wno-missing-field-initializers", "-L", harness.BUILD,
                                          "-lascribe"])

    def test_exports_are_the_header(self):
        shared = os.path.join(harness.BUILD, "libascribe.so.1")
        out = subprocess.run(["nm", "-D", "--defined-only", shared], check=True, capture_output=True,
                             text=True).stdout
        shown = {line.split()[2].split("@")[0] for line in out.splitlines() if line.split()[1] != "A"}
        self.assertEqual(shown, declared())
        self.assertGreater(len(shown), 50)

    def test_every_name_of_the_archive_is_ours(self):
        out = subprocess.run(["nm", "-g", "--defined-only", os.path.join(harness.BUILD, "libascribe.a")],
                             check=True, capture_output=True, text=True).stdout
        names = {line.split()[2] for line in out.splitlines() if len(line.split()) == 3}
        self.assertEqual({n for n in names if not n.startswith("asc_")}, set())


if __name__ == "__main__":
    unittest.main(verbosity=2)
