"""crowd.py - many bad clients in processes of their own, at the lowest priority: they stand for
machines elsewhere, and the two cores here are the server's.

A Crowd keeps `count` connections in one manner until it is ended; when the server closes one, it is
opened again after a second, as somebody would who means it. Manners:
  idle          connects, says nothing
  slow-head     a request's head, a byte a second
  slow-body     a head with a key and a length, then a byte a second
  slow-reader   asks for the largest open file, eight times, and never reads
  abort         resets in the middle of a body, at once again
  flood         64 KiB of header fields, at once again
  guess         asks with keys by chance, one after the other
SlowTest is the same from slowhttptest, whose author had no part in this.
"""
import multiprocessing
import os
import secrets
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import time

RESET = struct.pack("ii", 1, 0)
MANNERS = ("idle", "slow-head", "slow-body", "slow-reader", "abort", "flood", "guess")
AT_ONCE = ("abort", "flood")
AGAIN_S = 1.0


def greeting(manner, key):
    auth = f"Authorization: Bearer {key}\r\n"
    put = f"PUT /v1/corpora/c/batches/x HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 100000\r\n\r\n".encode()
    return {
        "idle": b"",
        "slow-head": b"GET /v1/info HTTP/1.1\r\nHost: x\r\n",
        "slow-body": put,
        "slow-reader": b"GET /page/d3.js HTTP/1.1\r\nHost: x\r\n\r\n" * 8,
        "abort": put + b"x" * 5000,
        "flood": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"y" * 65536,
        "guess": b"",
    }[manner]


def guess():
    key = f"asc_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
    return f"GET /v1/info HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


def _send(s, data):
    try:
        s.send(data)
    except OSError:
        pass  # full, or closed, which the next look at it says


class Live:
    """The connections, in the crowd's own process."""

    def __init__(self, address, manner, count, key):
        self.address, self.manner, self.count = address, manner, count
        self.hello, self.poll = greeting(manner, key), selectors.DefaultSelector()
        self.open, self.again, self.total, self.turn = {}, [], 0, 0

    def one(self):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(5)
        try:
            s.connect(self.address)
        except OSError:
            s.close()
            return False
        s.setblocking(False)
        self.total += 1
        _send(s, self.hello or (guess() if self.manner == "guess" else b""))
        if self.manner == "abort":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            s.close()
        else:
            self.open[s.fileno()] = s
            if self.manner != "slow-reader":
                self.poll.register(s, selectors.EVENT_READ)
        return True

    def grow(self):
        now = time.monotonic()
        while self.again and self.again[0] <= now:
            self.again.pop(0)
        for _ in range(100):
            if len(self.open) + len(self.again) >= self.count or not self.one():
                return

    def look(self):
        for event, _ in self.poll.select(0.01):
            s = event.fileobj
            try:
                if s.recv(65536):
                    if self.manner == "guess":
                        s.send(guess())
                    continue
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                pass
            self.poll.unregister(s)
            del self.open[s.fileno()]
            s.close()
            if self.manner not in AT_ONCE:
                self.again.append(time.monotonic() + AGAIN_S)

    def drip(self, since):
        """A byte a second from each, not from all at once."""
        due = [s for fd, s in self.open.items() if fd % 100 in
               {i % 100 for i in range(int(since * 100), int(time.monotonic() * 100))}]
        for s in due:
            _send(s, b"x")

    def full(self):
        if self.manner in AT_ONCE:
            return self.total >= self.count
        return len(self.open) + len(self.again) >= self.count


def _run(address, manner, count, key, begun, ending, opened):
    os.nice(19)
    live, since = Live(address, manner, count, key), time.monotonic()
    while not ending.is_set():
        live.grow()
        opened.value = live.total
        if live.full():
            begun.set()
        live.look()
        if manner in ("slow-head", "slow-body"):
            live.drip(since)
            since = time.monotonic()
    for s in live.open.values():
        s.close()


class Crowd:
    def __init__(self, address, manner, count, key):
        self.begun, self.ending = multiprocessing.Event(), multiprocessing.Event()
        self.opened = multiprocessing.Value("Q", 0)
        self.process = multiprocessing.Process(
            target=_run, args=(address, manner, count, key, self.begun, self.ending, self.opened), daemon=True)

    def __enter__(self):
        self.process.start()
        if not self.begun.wait(120):
            self.process.terminate()
            raise RuntimeError(f"only {self.opened.value} connections came about")
        return self

    @property
    def connections(self):
        return self.opened.value

    def __exit__(self, *_):
        self.ending.set()
        self.process.join(30)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


class SlowTest:
    """slowhttptest with `mode` -H, -B or -X; it connects for a second or two before it is in place."""

    def __init__(self, address, mode, count, key):
        url = "http://%s:%d" % address
        slow = {"-H": ["-u", url + "/v1/info"], "-B": ["-u", url + "/v1/corpora/c/query", "-s", "8192"],
                "-X": ["-u", url + "/page/d3.js", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"]}[mode]
        self.command = ["nice", "-n", "19", shutil.which("slowhttptest"), mode, "-c", str(count), "-r", str(count),
                        "-i", "1", "-l", "600", "-v", "0", "-f", "application/json",
                        "-j", f"x\r\nAuthorization: Bearer {key}", *slow]  # a key, or a body is refused by its head
        self.connections = count

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        time.sleep(2)
        if self.process.poll() is not None:
            raise RuntimeError("slowhttptest ended at once")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def good(client, path, body, seconds, pause=0.002):
    """Milliseconds of each request of one well-behaved client; every answer must be 200."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.monotonic()
        reply = client.post(path, body)
        took.append((time.monotonic() - begin) * 1e3)
        if reply.status != 200:
            raise AssertionError(f"the good client got {reply.status}: {reply.body[:200]!r}")
        time.sleep(pause)
    return took


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else None
