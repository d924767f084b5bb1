"""test_tutorials.py - the tutorials (docs/tutorial-*.md), run as they stand, block by block.

A page is read from top to bottom in a scratch folder that has `client` beside it, as a checkout has:

    sh       runs in bash with -eu; exported variables live on in later blocks
    sh that begins with `ascribed `: a server, in the background, on a free port: wherever a later
             block says 127.0.0.1:7171 that port stands instead
    python   one interpreter for the whole page
    c        is written to the file that its first line names: /* ask.c - ... */
    text     what the block before it prints: every line must be there, in this order; `…` stands for
             anything, and spaces count once

Blocks of no language are for reading. Nothing else is changed.
"""
import contextlib
import glob
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import unittest
import unittest.mock

import harness as h

sys.path.insert(0, os.path.join(h.ROOT, "client/python"))

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
ADDRESS = "127.0.0.1:7171"
LANGUAGES = {"", "sh", "python", "c", "text", "json"}


def blocks(page):
    """[(language, text, number of its first line)]."""
    with open(page, encoding="utf-8") as f:
        text = f.read()
    return [(m.group(1), m.group(2), text.count("\n", 0, m.start()) + 2)
            for m in BLOCK.finditer(text)]


def missing(expected, output):
    """The first line of `expected` that does not follow in `output`, or None."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    at = 0
    for wanted in expected.splitlines():
        wanted = " ".join(wanted.split())
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("…")))
        while at < len(lines) and not pattern.fullmatch(lines[at]):
            at += 1
        if at == len(lines):
            return wanted
        at += 1
    return None


class Tutorials(h.Case):
    """One test a page."""

    def setUp(self):
        self.folder, self.address, self.output = self.scratch(), ADDRESS, ""
        os.symlink(os.path.join(h.ROOT, "client"), os.path.join(self.folder, "client"))
        where = os.path.dirname(h.program("ascribe"))
        self.env = {**os.environ, "PATH": where + ":" + os.environ["PATH"], "LC_ALL": "C.UTF-8",
                    "PYTHONPATH": os.path.join(h.ROOT, "client/python"), "TERM": "dumb",
                    "C_INCLUDE_PATH": os.path.join(h.ROOT, "client"), "LIBRARY_PATH": where,
                    "LD_LIBRARY_PATH": where,
                    # the reader's own program is built without a sanitizer, beside a library that has one
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        for name in ("ASCRIBE_KEY", "ASCRIBE_SERVER", "ASCRIBE_STORE"):
            self.env.pop(name, None)
        self.names = {"__name__": "__tutorial__"}

    def here(self, text):
        return text.replace(ADDRESS, self.address)

    def run_server(self, text):
        """`ascribed --store DIR ... &`"""
        words = shlex.split(text.replace("\\\n", " ").strip().removesuffix("&"))
        self.assertEqual((words[0], words[1]), ("ascribed", "--store"), text)
        more = [w for w in words[3:] if w != "--create"]
        server = h.Server(os.path.join(self.folder, words[2]), more, self.env).start()
        self.addCleanup(server.stop)
        self.address = "%s:%d" % server.address
        # where the command and the package look first is the page's own address, if it says no other
        self.env.setdefault("ASCRIBE_SERVER", "http://" + self.address)
        self.output = "\n".join(server.log)

    def run_sh(self, text):
        kept = os.path.join(self.folder, ".env")
        script = f"set -eu -o pipefail\ntrap 'env -0 >{shlex.quote(kept)}' EXIT\n{self.here(text)}"
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, env=self.env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, timeout=120 * h.SLOW)
        self.output = done.stdout
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        with open(kept, encoding="utf-8") as f:
            kept = dict(line.split("=", 1) for line in f.read().split("\0") if line)
        self.env.update((k, v) for k, v in kept.items() if k not in ("_", "SHLVL", "PWD", "OLDPWD"))

    def run_python(self, text, line, page):
        out = io.StringIO()
        code = compile("\n" * (line - 1) + self.here(text), page, "exec")
        with unittest.mock.patch.dict(os.environ, self.env), moved(self.folder), \
                contextlib.redirect_stdout(out):
            exec(code, self.names)  # pylint: disable=exec-used
        self.output = out.getvalue()

    def run_c(self, text):
        name = re.match(r"/\* (\w+\.c) - ", text)
        self.assertTrue(name, "a block of C begins with /* its-name.c - ... */")
        with open(os.path.join(self.folder, name.group(1)), "w", encoding="utf-8") as f:
            f.write(text)

    def run_page(self, page):
        ran = 0
        for language, text, line in blocks(page):
            with self.subTest(f"{os.path.basename(page)}:{line}"):
                self.assertIn(language, LANGUAGES)
                if language == "sh" and text.startswith("ascribed "):
                    self.run_server(text)
                elif language == "sh":
                    self.run_sh(text)
                elif language == "python":
                    self.run_python(text, line, page)
                elif language == "c":
                    self.run_c(text)
                elif language == "text":
                    self.assertIsNone(missing(text, self.output),
                                      f"not printed, or not in this order, in:\n{self.output}")
                ran += language in ("sh", "python")
                continue
            break  # what follows rests on what failed
        self.assertGreater(ran, 3)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "needs python3-torch")
    def test_researcher(self):
        self.run_page(os.path.join(h.ROOT, "docs/tutorial-researcher.md"))

    def test_curator(self):
        self.run_page(os.path.join(h.ROOT, "docs/tutorial-curator.md"))

    def test_program(self):
        self.run_page(os.path.join(h.ROOT, "docs/tutorial-program.md"))

    def test_every_tutorial_is_run(self):
        pages = {os.path.basename(p) for p in glob.glob(os.path.join(h.ROOT, "docs/tutorial-*.md"))}
        self.assertEqual(pages, {f"tutorial-{name[5:]}.md" for name in dir(self)
                                 if name.startswith("test_") and name != "test_every_tutorial_is_run"})


@contextlib.contextmanager
def moved(folder):
    """Python blocks run where the shell's do."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
