"""load.py - requests at a rate that does not wait for answers, from one process of its own: each is
sent when it is due, on a connection that is free or on a new one. Times are from the moment it was
due to be sent to the last byte of its answer.
"""
import json
import multiprocessing
import re
import selectors
import socket
import time


class Line:
    """One connection, with at most one request."""

    def __init__(self, address):
        self.s = socket.create_connection(address, timeout=10)
        self.s.setblocking(False)
        self.out, self.got, self.due = b"", bytearray(), None

    def ask(self, request, due):
        self.out, self.due = request, due
        self.got.clear()
        self.push()

    def push(self):
        try:
            self.out = self.out[self.s.send(self.out):]
        except BlockingIOError:
            pass

    def answer(self):
        """(status, keeps) once all of it is there, else None; (0, False) when it was cut."""
        try:
            part = self.s.recv(1 << 20)
        except BlockingIOError:
            return None
        except OSError:
            return 0, False
        self.got += part
        end = self.got.find(b"\r\n\r\n")
        if end < 0:
            return None if part else (0, False)
        head = bytes(self.got[:end + 2]).lower()
        size = end + 4 + int(re.search(rb"content-length: (\d+)", head).group(1))
        if len(self.got) >= size:
            return int(head[9:12]), b"connection: close" not in head
        return None if part else (0, False)


def run(address, request, rate, seconds, most, out):
    """Puts {status: [milliseconds]} into the queue `out`; 0 stands for an answer that was cut."""
    poll, free, busy, took = selectors.DefaultSelector(), [], set(), {}
    begin = time.monotonic()
    sent, end = 0, begin + seconds
    while time.monotonic() < end or busy:
        now = time.monotonic()
        while now < end and sent < (now - begin) * rate and (free or len(busy) < most):
            line = free.pop() if free else Line(address)
            if line.due is None:
                poll.register(line.s, selectors.EVENT_READ, line)
            line.ask(request, begin + sent / rate)
            busy.add(line)
            sent += 1
        for event, _ in poll.select(0.001):
            line = event.data
            if line.out:
                line.push()
            found = line.answer()
            if not found:
                continue
            if line in busy:
                busy.discard(line)
                took.setdefault(found[0], []).append((time.monotonic() - line.due) * 1e3)
            if found[1]:
                free.append(line)
            else:
                poll.unregister(line.s)
                line.s.close()
                if line in free:
                    free.remove(line)
        if now > end + 30:
            took.setdefault(0, []).extend([3e4] * len(busy))
            break
    out.put(json.dumps(took))


def flood(address, request, rate, seconds, most=512):
    """{status: [milliseconds]} of an open-loop load, from another process."""
    out = multiprocessing.Queue()
    process = multiprocessing.Process(target=run, args=(address, request, rate, seconds, most, out), daemon=True)
    process.start()
    took = json.loads(out.get(timeout=seconds + 120))
    process.join()
    return {int(k): v for k, v in took.items()}
