"""test_page.py - the page in a real browser: Debian's chromium, driven by playwright-core against real
servers with a small real store (tests/page/store.py). The tests themselves are tests/page/test_*.mjs;
each is a test here, run by one node process in one browser.

What is needed (chromium, node, the two packages of tests/page/package-lock.json under build/page) is
put there by `make test` and `make page-test`; without the package registry the tests are skipped, and
say so. Screenshots of every view stay in build/page/shots.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

import harness as h

HERE = os.path.join(h.ROOT, "tests/page")
WORK = os.path.join(h.ROOT, "build/page")
FILES = sorted(glob.glob(os.path.join(HERE, "test_*.mjs")))


def names():
    """[(file, name)] of every test("name", ...) in the sources."""
    out = []
    for path in FILES:
        with open(path, encoding="utf-8") as f:
            out += [(path, name) for name in re.findall(r'^test\("((?:[^"\\]|\\.)*)"', f.read(), re.M)]
    return out


def packages():
    """The folder with node_modules as the lock file says; None and why when they cannot be had."""
    for word in ("node", "npm"):
        if not shutil.which(word):
            return None, f"there is no {word}: apt-get install nodejs npm"
    with open(os.path.join(HERE, "package-lock.json"), "rb") as f:
        lock = f.read()
    folder, mark = os.path.join(WORK, "npm"), os.path.join(WORK, "npm/installed.json")
    if os.path.exists(mark):
        with open(mark, "rb") as f:
            if f.read() == lock:
                return folder, None
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, name), folder)
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True,
                          text=True)
    if done.returncode:
        return None, "npm ci failed: " + " ".join(done.stderr.split())[-300:]
    with open(mark, "wb") as f:
        f.write(lock)
    return folder, None


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page(unittest.TestCase):
    """Results of the one run, by name."""

    results, servers, why = {}, [], None

    @classmethod
    def setUpClass(cls):
        if h.FLAVOUR:
            raise unittest.SkipTest("the browser is timed: a plain build only")
        cls.why = None if chromium() else "there is no chromium: apt-get install chromium"
        npm, reason = (None, cls.why) if cls.why else packages()
        if not npm:
            raise unittest.SkipTest(reason)
        cls.addClassCleanup(cls.end)
        os.makedirs(os.path.join(WORK, "shots"), exist_ok=True)
        for old in glob.glob(os.path.join(WORK, "shots/*.png")):
            os.remove(old)
        config = os.path.join(cls.folder(), "config.json")
        cls.serve(config)
        cls.run_all(npm, config)

    @classmethod
    def folder(cls):
        cls.scratch = getattr(cls, "scratch", None) or h.tempfile.mkdtemp(prefix="ascribe-page-")
        return cls.scratch

    @classmethod
    def serve(cls, config):
        """A server with the store and its model as encoder; one with an encoder that misbehaves."""
        folder = cls.folder()
        made = subprocess.run([sys.executable, "-B", os.path.join(HERE, "store.py"), h.BUILD, folder],
                              capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        shutil.copytree(f"{folder}/store", f"{folder}/other")
        encoder = f"{h.BUILD}/ascribe-lm serve --model {folder}/model.ckpt --like {folder}/batches/corpus.json"
        wild = f"{sys.executable} {os.path.join(HERE, 'wild_encoder.py')} {folder}/wild"
        entries = {}
        for name, store, args in (("main", "store", ("--encoder", encoder)), ("wild", "other", ("--encoder", wild)),
                                  ("fresh", "fresh", ("--create",))):
            server = h.Server(f"{folder}/{store}", args=args).start()
            cls.servers.append(server)
            entries[name] = {"url": server.url, "key": server.key}
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"chromium": chromium(), "servers": entries, "folder": folder, "shots": os.path.join(WORK, "shots"),
                       "patience": 30000 * h.SLOW, "only": os.environ.get("PAGE_ONLY", "")}, f)

    @classmethod
    def run_all(cls, npm, config):
        env = dict(os.environ, PAGE_NPM=npm, PAGE_CONFIG=config, HOME=cls.folder())
        done = subprocess.run(["node", os.path.join(HERE, "run.mjs"), *FILES], env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=540)
        cls.results = {r["name"]: r for r in map(json.loads, filter(lambda t: t.startswith("{"), done.stdout.splitlines()))}
        cls.said = done.stderr[-4000:]

    @classmethod
    def end(cls):
        for server in cls.servers:
            server.stop()
        if cls.servers:
            shutil.rmtree(cls.folder(), ignore_errors=True)

    def check(self, name):
        result = self.results.get(name)
        self.assertIsNotNone(result, f"did not run\n{self.said}")
        self.assertTrue(result["ok"], result["error"])


class Sources(unittest.TestCase):
    """What needs no browser."""

    def test_names_are_unique(self):
        every = [name for _, name in names()]
        self.assertGreater(len(every), 20)
        self.assertEqual(len(every), len(set(every)))

    def test_the_lock_has_sums_and_no_addresses(self):
        with open(os.path.join(HERE, "package-lock.json"), encoding="utf-8") as f:
            lock = json.load(f)
        packages = {k: v for k, v in lock["packages"].items() if k}
        self.assertTrue(packages)
        for name, entry in packages.items():
            self.assertTrue(entry["integrity"].startswith("sha512-"), name)
            self.assertNotIn("resolved", entry, name)


def one(name):
    return lambda self: self.check(name)


for _, title in names():
    setattr(Page, "test_" + re.sub(r"\W+", "_", title), one(title))


if __name__ == "__main__":
    h.main()
