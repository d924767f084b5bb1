#!/usr/bin/python3
"""kills.py - SIGKILL at random moments of a busy server, and everything checked after each (S1, S3).

    kills.py [--kills N] [--seconds S] [--seed N] [--scratch DIR] [--book FILE]

A store lives for a few dozen kills, then all of it is checked once more, its backups are restored and
checked too, and the next store begins with the next seed. While clients ingest, one other thing goes
on: takedowns, a compaction, a fit, a task, a backup; the kill comes up to 400 ms into it. Then:

    corpus c   must be what the ledger says, bit for bit (ledger.py); what had no answer is sent again
    corpus w   is fitted and has tasks: of one epoch or the next, scores those of TrackStar in numpy
    backups    that were told of as finished restore to all that was acknowledged before they began
    restores   of such a backup are killed as well: the new store is absent or whole

Exits 1 at the first promise that does not hold, with the seed; the store is left for a look.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import clients as c
import ledger as l
from ledger import GONE, good, h, hold

ROWS, DIM, CLIENTS = 60, 96, 3
LIFE = 24  # kills a store lives for
ACTS = ("none", "delete", "compact", "fit", "task", "backup", "delete", "compact")


class Store:
    """One store of the campaign, from its making to its last check."""

    def __init__(self, seed, scratch):
        self.seed, self.dice = seed, random.Random(seed)
        self.base = tempfile.mkdtemp(prefix="kills-", dir=scratch)
        self.notes = tempfile.mkdtemp(prefix="kills-ledger-")  # the client's own disk
        self.content = l.Content(seed, ROWS, DIM)
        self.ledger = l.Ledger(self.notes + "/ledger.txt")
        self.checker = l.Checker(self.content, self.ledger, "c")
        self.writers = c.Writers(self.content, self.ledger, CLIENTS)
        self.white = c.White(seed)
        self.backups = []  # (name, acknowledged before it began, intended when it was done, deleted before)
        self.counts = dict.fromkeys(("kills", "acked", "deleted", "compactions", "fits", "tasks", "backups",
                                     "restored", "restore_kills", "resent", "already"), 0)
        self.ready = []
        # Small shards and chunks, so that kills meet roll-overs, and compactions have work.
        self.server = h.Server(self.base + "/store", [
            "--shard-bytes", self.dice.choice(["256K", "1M", "4M"]),
            "--chunk-bytes", self.dice.choice(["16K", "64K", "1M"]), *l.PATIENT])

    def start(self):
        self.server.start(create=True, timeout=l.LONG)
        self.ready.append(self.server.ready_seconds)
        return l.Steady(self.server)

    # ---- what goes on beside the ingest; each ends when the server dies ----

    def job(self, job):
        hold(job["state"] == "succeeded", job)
        return job

    def act_none(self, client):
        pass

    def act_delete(self, client):
        acked = sorted(self.ledger.get("ack"))
        for _ in range(200 if acked else 0):
            batch, row = self.dice.choice(acked), self.dice.randrange(ROWS)
            name = f"b{batch}-r{row}"
            if name in self.ledger.get("deleted"):
                continue
            self.ledger.write("delete", name)
            reply = good(client.delete(f"/v1/corpora/c/examples/{name}"), 204, 404)
            hold(reply.status == 204 or name in self.ledger.get("delete"), "an example was not there:", name)
            self.ledger.write("deleted", name)
            self.counts["deleted"] += 1

    def act_compact(self, client):
        self.job(c.follow(client, client.post("/v1/admin/compact")))
        self.counts["compactions"] += 1

    def act_fit(self, client):
        self.job(self.white.fit(client, self.dice.choice([0.05, 0.1, 0.2, 0.4])))
        self.white.fitted()
        self.counts["fits"] += 1

    def act_task(self, client):
        self.job(self.white.task(client, f"t{self.dice.randrange(3)}", self.dice.choice([0.3, 0.6, 0.9])))
        self.counts["tasks"] += 1

    def act_backup(self, client):
        before, gone = self.ledger.get("ack"), self.ledger.get("deleted")
        job = self.job(c.follow(client, client.post("/v1/admin/backup")))
        self.backups.append((c.backup_of(job), before, self.ledger.get("intend"), gone))
        self.counts["backups"] += 1

    def act(self, word, faults):
        client = self.server.client(timeout=60)
        try:
            while True:
                getattr(self, "act_" + word)(client)
                if word in ("none", "delete"):
                    return
        except GONE:
            pass
        except Exception as fault:
            faults.append(fault)

    # ---- one kill ----

    def kill(self):
        word, faults = self.dice.choice(ACTS), []
        if word == "task" and not self.white.epoch:
            word = "fit"  # a task stands on a fit
        self.writers.begin(self.server)
        actor = threading.Thread(target=self.act, args=(word, faults))
        actor.start()
        time.sleep(0.005 + self.dice.random() * 0.4)
        self.server.kill()
        self.writers.end()
        c.join(actor, 90, f"{word} of a dead server")
        if faults:
            raise faults[0]
        self.counts["kills"] += 1
        client = self.start()
        self.checker.check(client, engines=("auto", self.dice.choice(["tiered", "scan", "flat"])))
        self.white.check(client)
        client.close()

    # ---- the end of a store ----

    def finish(self):
        """What had no answer is sent again and arrives once; then everything is looked at, backups too."""
        client = l.Steady(self.server)
        self.writers.send_again(client)
        have = self.checker.check(client, engines=("auto", "tiered", "scan", "flat"), texts=True)
        hold(have >= self.writers.next * ROWS - len(self.ledger.get("delete")), "fewer than were sent")
        client.close()
        self.server.stop()
        self.verify(self.server.store)
        for n, backup in enumerate(self.backups):
            self.restore(n, *backup)
        self.counts.update(acked=len(self.ledger.get("ack")) * ROWS, resent=self.writers.resent,
                           already=self.writers.already)
        self.ledger.close()
        shutil.rmtree(self.base)
        shutil.rmtree(self.notes)

    def verify(self, store):
        done = h.offline("verify", "--store", store, timeout=l.LONG)
        hold(done.returncode == 0, "verify says", done.stdout[-2000:], done.stderr[-2000:])

    def restore(self, n, name, before, intended, gone):
        source, target = os.path.join(self.server.store, "backups", name), f"{self.base}/restored{n}"
        command = [h.program("ascribed"), "restore", "--store", target, "--from", source]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(self.dice.random() * 0.06)
        process.kill()
        process.communicate()
        self.counts["restore_kills"] += 1
        if not os.path.exists(target):
            shutil.rmtree(target + ".part", ignore_errors=True)  # restore asks for that
            h.offline("restore", "--store", target, "--from", source, check=0, timeout=l.LONG)
        self.verify(target)
        again = h.Server(target)
        again.start(create=False, timeout=l.LONG)
        client = l.Steady(again, again.key if os.path.exists(target + "/admin.key") else self.server.key)
        # What was taken down later is still in it, what was taken down before is not.
        back = set(self.checker.present(client)[0]) & gone
        hold(not back, "deleted before the backup, and in it:", sorted(back)[:9])
        kept = self.ledger.said.get("deleted", set())
        self.ledger.said["deleted"] = gone
        try:
            self.checker.check(client, acked=before, intended=intended)
        finally:
            self.ledger.said["deleted"] = kept
        client.close()
        again.stop()
        shutil.rmtree(target)
        self.counts["restored"] += 1


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(p * len(values)))]


def campaign(kills, seconds, seed, scratch, book):
    """Runs stores until `kills` are done or `seconds` are over. Returns the line for the book."""
    begin, total, ready, stores = time.monotonic(), {}, [], 0
    while total.get("kills", 0) < kills and time.monotonic() - begin < seconds:
        store = Store(seed + stores, scratch)
        try:
            client = store.start()
            good(client.put("/v1/corpora/c", {"dim": DIM}), 201)
            store.white.create(client)
            store.white.fill(client)
            client.close()
            while (store.counts["kills"] < LIFE and total.get("kills", 0) + store.counts["kills"] < kills
                   and time.monotonic() - begin < seconds):
                store.kill()
            store.finish()
        except Exception as fault:
            print(f"kills.py: seed {seed + stores}, kill {store.counts['kills']}: {store.base}, "
                  f"ledger {store.notes}\n" + store.server.tail(30), file=sys.stderr)
            if store.server.process is not None:
                store.server.process.kill()
            broken = isinstance(fault, AssertionError)  # anything else is a fault of this program's
            l.record("kill", seed, total.get("kills", 0) + store.counts["kills"], int(broken),
                     time.monotonic() - begin, book, stopped=f"{type(fault).__name__}: {fault}"[:200],
                     **{k: v for k, v in total.items() if k != "kills"})
            raise
        for word, count in store.counts.items():
            total[word] = total.get(word, 0) + count
        ready += store.ready
        stores += 1
        print(f"kills.py: {total['kills']} kills, {total['acked']} examples acknowledged, "
              f"{total['restored']} backups restored, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    n = total.pop("kills")
    return l.record("kill", seed, n, 0, time.monotonic() - begin, book, stores=stores, lost=0, duplicated=0,
                    ready_p50_ms=round(percentile(ready, 0.5) * 1e3), ready_p99_ms=round(percentile(ready, 0.99) * 1e3),
                    ready_max_ms=round(max(ready) * 1e3), **total)


def main():
    parser = argparse.ArgumentParser(description="Kills a busy server at random moments and checks everything.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--scratch", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--book", help="append the result to this file")
    args = parser.parse_args()
    campaign(args.kills, args.seconds, args.seed, args.scratch, args.book)


if __name__ == "__main__":
    main()
