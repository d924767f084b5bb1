"""crowd.py - many bad clients in a process of their own, and one good one that is timed beside them.

A Crowd keeps `count` connections in one manner until it is ended; when the server closes one, it is
opened again, as somebody would who means it. Manners:
  idle          connects, says nothing
  slow-head     a request's head, a byte a second
  slow-body     a head with a key and a length, then a byte a second
  slow-reader   asks for a large page, never reads the answer
  abort         resets in the middle of a body, at once again
  flood         64 KiB of header fields, at once again
"""
import multiprocessing
import selectors
import socket
import struct
import time

RESET = struct.pack("ii", 1, 0)
MANNERS = ("idle", "slow-head", "slow-body", "slow-reader", "abort", "flood")


def greeting(manner, key):
    auth = f"Authorization: Bearer {key}\r\n"
    return {
        "idle": b"",
        "slow-head": b"GET /v1/info HTTP/1.1\r\nHost: x\r\n",
        "slow-body": f"PUT /v1/corpora/c/batches/x HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 100000\r\n\r\n".encode(),
        "slow-reader": f"GET /v1/corpora/c/examples?limit=1000 HTTP/1.1\r\nHost: x\r\n{auth}\r\n".encode() * 8,
        "abort": f"PUT /v1/corpora/c/batches/x HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 100000\r\n\r\n".encode()
                 + b"x" * 5000,
        "flood": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: " + b"y" * 65536,
    }[manner]


def _open(address, manner, hello):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(5)
    try:
        s.connect(address)
        s.setblocking(False)
        if hello:
            try:
                s.send(hello)
            except (BlockingIOError, ConnectionError):
                pass
    except OSError:
        s.close()
        return None
    return s


def _live(address, manner, count, key, begun, ending, opened):
    hello, everyone, total = greeting(manner, key), [], 0
    poll = selectors.DefaultSelector()
    while not ending.is_set():
        fresh = 0
        while len(everyone) < count and fresh < 200:
            s = _open(address, manner, hello)
            fresh, total = fresh + 1, total + (s is not None)
            if s is None:
                break
            if manner == "abort":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                s.close()
                continue
            everyone.append(s)
            if manner != "slow-reader":
                poll.register(s, selectors.EVENT_READ)
        opened.value = total
        if len(everyone) >= count or manner in ("abort", "flood") and total >= count:
            begun.set()
        gone = set()
        for event, _ in poll.select(0.05):
            s = event.fileobj
            try:
                if s.recv(65536):
                    continue
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                pass
            poll.unregister(s)
            s.close()
            gone.add(s)
        if manner in ("slow-head", "slow-body") and time.monotonic() % 1 < 0.06:
            for s in everyone:
                if s not in gone:
                    try:
                        s.send(b"x")
                    except OSError:
                        pass
        everyone = [s for s in everyone if s not in gone]
    for s in everyone:
        s.close()


class Crowd:
    def __init__(self, address, manner, count, key):
        self.begun, self.ending = multiprocessing.Event(), multiprocessing.Event()
        self.opened = multiprocessing.Value("Q", 0)
        self.process = multiprocessing.Process(
            target=_live, args=(address, manner, count, key, self.begun, self.ending, self.opened), daemon=True)
        self.process.start()

    def __enter__(self):
        if not self.begun.wait(60):
            self.process.terminate()
            raise RuntimeError(f"only {self.opened.value} connections came about")
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.process.join(20)
        if self.process.is_alive():
            self.process.terminate()


def good(client, path, body, seconds, pause=0.01):
    """Milliseconds of each request of one well-behaved client; every answer must be 200."""
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        begin = time.monotonic()
        reply = client.post(path, body)
        took.append((time.monotonic() - begin) * 1e3)
        if reply.status != 200:
            raise AssertionError(f"the good client got {reply.status}: {reply.body[:200]!r}")
        time.sleep(pause)
    return sorted(took)


def quantile(values, q):
    return values[min(len(values) - 1, int(q * len(values)))]
