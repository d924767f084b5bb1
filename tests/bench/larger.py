"""larger.py - a store larger than the memory it may use: how fast it answers, what it reads, what it holds.

The server runs in a memory cgroup of its own (v1 or v2, a child of ours, removed at the end) whose limit,
page cache included, is a fraction of the store. The store's pages are dropped from the cache first. For
each precision: time a query, bytes read from the device a query (/proc/PID/io, which counts the pages that
faulted in), the cgroup's peak, and the disk's own rate on the same files, read past the cache. If
the float rows were dragged in, a query would read all of them: the figures say that it does not.
"""
import glob
import os
import re
import subprocess
import time

import book
import serving
from book import MB, h


class Cgroup:
    """A memory limit around processes started by `enter`."""

    def __init__(self, limit):
        with open("/proc/self/cgroup", encoding="ascii") as f:
            lines = [line.strip().split(":", 2) for line in f]
        mine = {controllers: path for _, controllers, path in lines}
        if "memory" in mine:
            base, name = "/sys/fs/cgroup/memory" + mine["memory"], "memory.limit_in_bytes"
            self.peak_name = "memory.max_usage_in_bytes"
        else:
            base, name = "/sys/fs/cgroup" + mine.get("", "/"), "memory.max"
            self.peak_name = "memory.peak"
        self.path = os.path.join(base, f"ascribe-bench-{os.getpid()}")
        os.mkdir(self.path)
        try:
            with open(os.path.join(self.path, name), "w", encoding="ascii") as f:
                f.write(str(limit))
        except OSError:
            os.rmdir(self.path)
            raise

    def enter(self, pid):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as f:
            f.write(str(pid))

    def peak(self):
        try:
            with open(os.path.join(self.path, self.peak_name), encoding="ascii") as f:
                return int(f.read())
        except OSError:
            return None

    def close(self):
        os.rmdir(self.path)


def files(store):
    return sorted(glob.glob(store + "/shards/*/data.mdb"))


def drop(store):
    """The store's pages out of the page cache (they are clean: everything is synced)."""
    for path in files(store):
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def disk_rate(store):
    """MB/s of one sequential reader past the cache."""
    path = max(files(store), key=os.path.getsize)
    size = min(os.path.getsize(path), 1 << 30)
    began = time.monotonic()
    done = subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=1M", f"count={size >> 20}", "iflag=direct", "status=none"], capture_output=True)
    if done.returncode:
        return None
    return (size >> 20 << 20) / (time.monotonic() - began) / MB


def read_bytes(pid):
    with open(f"/proc/{pid}/io", encoding="ascii") as f:
        return int(re.search(r"read_bytes: (\d+)", f.read()).group(1))


def measure(book_, server, group, data, way, size, limit, requests):
    serving.ask(server, data.queries, data.dim, way, requests=2)  # what stays in the cache is there after it
    before = read_bytes(server.process.pid)
    with serving.Memory(server.process.pid) as memory:
        r = serving.ask(server, data.queries, data.dim, way, requests=requests, more="&text=0")
    read = (read_bytes(server.process.pid) - before) / requests
    peak = group.peak()
    book_.add(f"{way}, {limit >> 20} MiB for {size / MB:.0f} MB", f"p50 {r['ms']['p50']:9.1f} ms   {read / MB:8.1f} MB read from disk a query, "
              f"{read / r['ms']['p50'] / 1e3:6.0f} MB/s   anonymous {memory.peak:.0f} MiB   cgroup's peak {(peak or 0) >> 20} MiB",
              way=way, limit=limit, store_bytes=size, ms=r["ms"], read_bytes=read, mb_s=read / r["ms"]["p50"] / 1e3, anon_mib=memory.peak, peak=peak)


def run(book_, data, where, limits=(192 << 20, 512 << 20)):
    book.title("a store larger than memory: the server in a memory cgroup")
    store = where + "/larger"
    server = h.Server(store)
    server.start()
    client = server.client(timeout=300)
    assert client.put("/v1/corpora/bench", {"dim": data.dim, "encoded": True}).status == 201
    serving.send_all(server, "bench", data.batch_paths(), 2)
    client.close()
    server.stop()
    size = sum(os.path.getsize(p) for p in files(store))
    rate = disk_rate(store)
    book_.add("dd iflag=direct of the store's file", f"{rate or 0:9.0f} MB/s", mb_s=rate)
    for limit in limits:
        drop(store)
        try:
            group = Cgroup(limit)
        except OSError as e:
            print(f"  no memory cgroup can be made here ({e}): not measured")
            return
        try:
            server.start(create=False)
            group.enter(server.process.pid)
            for way, requests in (("certified", 8), ("probabilistic", 16), ("scan", 2)):
                measure(book_, server, group, data, way, size, limit, requests)
        finally:
            server.stop()
            group.close()
