"""stages.py - a long run as a chain of stages, each done once.

A stage that ended leaves a stamp: what it was asked for (a hash of its key and of the stamps it comes
after) and how many seconds it took. A run that broke is run again and goes on at the first stage
without a matching stamp; a changed key, or a stage redone, undoes what comes after it and nothing else.
"""
import hashlib
import json
import os
import sys
import time


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Stages:
    """processor: a function that tells how many seconds of a processor were spent so far."""

    def __init__(self, folder, redo=(), processor=time.process_time):
        self.processor = processor
        self.folder, self.redo, self.known = os.path.join(folder, "stamps"), set(redo), {}
        self.began = time.monotonic()
        os.makedirs(self.folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name + ".json")

    def stamp(self, name):
        try:
            with open(self.path(name), encoding="utf-8") as f:
                return json.load(f)
        except (OSError, ValueError):
            return None

    def run(self, name, key, after, work):
        """Runs work() unless its stamp says that it was done for the same key after the same stages.
        Returns whether it ran."""
        text = json.dumps([key, [self.known[a] for a in after]], sort_keys=True)
        want = hashlib.sha256(text.encode()).hexdigest()
        have = self.stamp(name)
        if have and have["want"] == want and name not in self.redo:
            self.known[name] = have["made"]
            self.say(f"{name:20} done before, in {clock(have['seconds'])}")
            return False
        if have:
            os.remove(self.path(name))
        self.say(f"{name:20} begins")
        began, spent = time.monotonic(), self.processor()
        work()
        seconds, spent = time.monotonic() - began, self.processor() - spent
        self.known[name] = str(time.time_ns())
        with open(self.path(name) + ".part", "w", encoding="utf-8") as f:
            json.dump({"want": want, "made": self.known[name], "seconds": seconds,
                       "processor": spent}, f)
        os.replace(self.path(name) + ".part", self.path(name))
        self.say(f"{name:20} took {clock(seconds)}, {clock(spent)} of a processor")
        return True

    def say(self, text):
        print(f"[{clock(time.monotonic() - self.began):>6}] {text}", file=sys.stderr, flush=True)

    def times(self):
        """{stage: {"seconds", "processor"}} of when it ran, in the order of this run."""
        return {name: {what: round(stamp[what], 1) if what in stamp else None
                       for what in ("seconds", "processor")}
                for name, stamp in ((name, self.stamp(name)) for name in self.known)}
