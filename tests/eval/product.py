"""product.py - the programs under evaluation, as a person would use them: ascribe-lm, ascribe, and one
ascribed on a port of its own. Nothing here computes a figure."""
import json
import os
import resource
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))


class Failed(Exception):
    """A program ended with an error; the text has its last words."""


class Product:
    """Programs of one build; their progress goes to the terminal, or else to `log`."""

    def __init__(self, build, folder):
        self.build, self.folder, self.log = build, folder, os.path.join(folder, "programs.log")
        self.env, self.server = dict(os.environ, LC_ALL="C.UTF-8"), None
        self.env.pop("ASCRIBE_KEY", None)
        self.env.pop("ASCRIBE_SERVER", None)

    def run(self, program, *args):
        """Standard output of a program that ended well."""
        command = [os.path.join(ROOT, self.build, program), *map(str, args)]
        with open(self.log, "a+b") as log:
            log.write((" ".join([program, *map(str, args)]) + "\n").encode())
            log.flush()
            begin = log.tell()
            errors = None if sys.stderr.isatty() else log
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, env=self.env,
                                  stdin=subprocess.DEVNULL)
            log.seek(begin)
            said = log.read().decode("utf-8", "replace")
        if done.returncode:
            raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{said[-2000:]}")
        return done.stdout.decode()

    def lm(self, *args):
        return self.run("ascribe-lm", *args)

    def ascribe(self, *args):
        return self.run("ascribe", "--timeout", 3600, *args)

    # --- the server ---

    def start(self):
        os.environ["ASCRIBE_BUILD"] = self.build
        import harness  # the tests' own: starts on port 0, insists on a clean end
        store = os.path.join(self.folder, "store")
        self.server = harness.Server(store, ["--memory", "6G", "--deadline-ms", "1800000"]).start(timeout=60)
        self.env.update(ASCRIBE_SERVER=self.server.url, ASCRIBE_STORE=store)

    def stop(self):
        if self.server is not None:
            self.server.stop()
            self.server = None

    def corpora(self):
        """Names."""
        return [json.loads(line)["name"] for line in self.ascribe("corpus", "list", "--json").splitlines()]

    def whitened(self, corpus):
        return json.loads(self.ascribe("corpus", "show", corpus, "--json"))["whitened"]

    # --- the model ---

    def queries(self, model, prompts, out, options):
        """The gradients of prompts and targets, as encode would encode."""
        self.lm("query", "--model", model, "--prompts", prompts, "--out", out, *options)

    def encode(self, model, data, corpus, options):
        """Every passage's gradient into a corpus of its own, made anew; in the order of the passages,
        so that ties are broken the same way in every run."""
        files = os.path.join(self.folder, "batches-" + corpus)
        if corpus in self.corpora():
            self.ascribe("corpus", "drop", corpus, "--yes")
        self.lm("encode", "--model", model, "--data", data, "--out", files, *options)
        self.ascribe("ingest", corpus, files, "--create", os.path.join(files, "corpus.json"), "--jobs", 1)
        shutil.rmtree(files)

    def processor(self):
        """Seconds of a processor that the programs took so far, the running server included."""
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = spent.ru_utime + spent.ru_stime
        if self.server is not None and self.server.alive():
            with open(f"/proc/{self.server.process.pid}/stat", encoding="utf-8") as f:
                fields = f.read().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return seconds
