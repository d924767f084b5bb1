"""harness.py - what every integration test stands on: a server of its own, clients, an oracle.

Server    starts build/.../ascribed on port 0 of the loopback (or a unix socket), waits for its ready
          line, stops it by SIGTERM and then insists on exit code 0 and no sanitizer report.
Client    http.client with a key, over TCP or a unix socket; Reply knows JSON and problem+json.
raw       bytes to a socket, bytes back: for what no HTTP library would send.
tensors   safetensors in and out, F32, F16 and BF16.
Oracle    what the server must answer, bit for bit, in numpy float64: normalisation, lanes, order.

Only the Python standard library and numpy. Nothing here sleeps for luck: it waits for a condition.
"""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("ASCRIBE_BUILD", "build/release"))
FLAVOUR = os.environ.get("ASCRIBE_FLAVOUR", "")
# How much slower than a plain build everything may be: scales every timeout and the ready bound.
SLOW = float(os.environ.get("ASCRIBE_SLOW") or {"asan": 4, "ubsan": 3, "tsan": 15}.get(FLAVOUR, 1))

TENSORS = "application/vnd.safetensors"
REPORTS = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|require\(.*\) failed"
                     r"|SUMMARY: \w+Sanitizer")


def program(name):
    """Path of a program under test. A build without it fails: a skip would look like success."""
    path = os.path.join(BUILD, name)
    if not os.access(path, os.X_OK):
        raise AssertionError(f"{path} is not built: make all")
    return path


# ---- safetensors ---------------------------------------------------------------------------------

NAMES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "f64": "F64", "u8": "U8", "i64": "I64"}
NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "U8": "u1", "I64": "<i8",
         "I32": "<i4"}


def narrow(x, dtype):
    """float32 values as they are stored or sent in `dtype`, rounded to nearest even. bf16: as u2."""
    x = np.asarray(x, "<f4")
    if dtype == "f32":
        return x
    if dtype == "f16":
        with np.errstate(over="ignore"):
            return x.astype("<f2")
    bits = x.view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def widen(x, dtype):
    """The float32 values of an array made by narrow: exact."""
    if dtype == "bf16":
        return (np.asarray(x, "<u2").astype("<u4") << 16).view("<f4")
    return np.asarray(x).astype("<f4")


def tensors(entries, metadata=None):
    """A safetensors file. entries: [(name, dtype word, shape, bytes)], laid out in that order."""
    header, at = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape, data in entries:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    return raw_tensors(json.dumps(header).encode(), b"".join(e[3] for e in entries))


def raw_tensors(header, data=b"", length=None):
    """The same from a header given as bytes, and a length that may lie."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def read_tensors(body):
    """{name: (dtype word, array)} and metadata of a safetensors file; asserts that it is well formed."""
    (length,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8:8 + length])
    metadata = header.pop("__metadata__", {})
    data, at, out = body[8 + length:], 0, {}
    for name, t in sorted(header.items(), key=lambda kv: kv[1]["data_offsets"]):
        begin, end = t["data_offsets"]
        assert begin == at, f"tensor {name} begins at {begin}, not {at}"
        array = np.frombuffer(data[begin:end], NUMPY[t["dtype"]])
        out[name] = (t["dtype"], array.reshape(t["shape"]))
        at = end
    assert at == len(data), f"{len(data) - at} bytes after the last tensor"
    return out, metadata


def matrix(name, x, dtype="f32"):
    """The tensor entry of float32 values sent in `dtype`."""
    x = np.atleast_2d(np.asarray(x, "<f4"))
    return (name, NAMES[dtype], x.shape, narrow(x, dtype).tobytes())


def lines(examples):
    """The `examples` tensor entry: JSON Lines of the objects (or of ids)."""
    rows = [e if isinstance(e, dict) else {"id": e} for e in examples]
    data = b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in rows)
    return ("examples", "U8", [len(data)], data)


def batch(gradients, examples, dtype="f32", metadata=None):
    """The body of an ingest."""
    return tensors([matrix("gradients", gradients, dtype), lines(examples)], metadata)


def queries(q, dtype="f32", metadata=None):
    """The body of a query or scores request."""
    return tensors([matrix("queries", q, dtype)], metadata)


# ---- the oracle ----------------------------------------------------------------------------------

LANES = 32


def lane_dot(rows, q):
    """<row, q> for every row of float32 values (q: one vector, or one a row), in the order of
    index/kern.h: element i goes to lane i mod 32 in ascending i; then lanes j and j+w are added for
    w = 16 ... 1. Products are exact."""
    rows, q = np.atleast_2d(rows), np.asarray(q)
    lanes = np.zeros((rows.shape[0], LANES))
    for at in range(0, rows.shape[1], LANES):
        part = rows[:, at:at + LANES].astype(np.float64)
        lanes[:, :part.shape[1]] += part * q[..., at:at + LANES].astype(np.float64)
    w = LANES // 2
    while w:
        lanes[:, :w] += lanes[:, w:2 * w]
        w //= 2
    return lanes[:, 0].copy()


def normalise(x, dtype="f32"):
    """(stored rows, norms) of float32 rows: norm in float64, one division, rounded to float32, then to
    the corpus's dtype (index/vec.h)."""
    x = np.atleast_2d(np.asarray(x, "<f4"))
    norms = np.sqrt(lane_dot(x, x))
    return narrow((x.astype(np.float64) / norms[:, None]).astype("<f4"), dtype), norms


class Oracle:
    """One corpus as it must be: rows in ingest order, the total order, the exact scores."""

    def __init__(self, dim, dtype="f32"):
        self.dim, self.dtype = dim, dtype
        self.rows = np.zeros((0, dim), "<f4")  # widened stored values
        self.norms = np.zeros(0)
        self.sequences = np.zeros(0, np.int64)
        self.ids, self.next = [], 0

    def ingest(self, gradients, ids, sent="f32"):
        """Adds a batch; returns (stored, duplicates). Ids that are there already are skipped."""
        have = set(self.ids)
        new = [i for i, name in enumerate(ids) if name not in have]
        if new:
            x = widen(narrow(np.atleast_2d(gradients)[new], sent), sent)
            stored, norms = normalise(x, self.dtype)
            self.rows = np.vstack([self.rows, widen(stored, self.dtype)])
            self.norms = np.append(self.norms, norms)
            self.sequences = np.append(self.sequences, np.arange(self.next, self.next + len(new)))
            self.ids += [ids[i] for i in new]
            self.next += len(new)
        return len(new), len(ids) - len(new)

    def delete(self, name):
        at = self.ids.index(name)
        keep = np.arange(len(self.ids)) != at
        self.rows, self.norms = self.rows[keep], self.norms[keep]
        self.sequences = self.sequences[keep]
        del self.ids[at]

    def scores(self, q, sent="f32"):
        """float64 scores of one query (as sent) against every live row."""
        unit, _ = normalise(widen(narrow(q, sent), sent), "f32")
        return lane_dot(self.rows, unit[0])

    def top(self, q, k, opponents=0, sent="f32"):
        """(proponents, opponents): lists of (id, score, sequence), best first."""
        s = self.scores(q, sent)
        high = np.lexsort((self.sequences, -s))[:k]
        low = np.lexsort((self.sequences, s))[:opponents]
        return [[(self.ids[i], float(s[i]), int(self.sequences[i])) for i in end]
                for end in (high, low)]


# ---- clients -------------------------------------------------------------------------------------

class Reply:
    """One answer: status, headers (case-insensitive), body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.headers.get('Content-Type')} {self.body[:400]!r}>"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """A kept-alive client with a key. Not for sharing between threads. http.client sends each
    request once; a caller who wants resends writes them."""

    def __init__(self, address, key=None, timeout=60):
        self.address, self.key, self.timeout = address, key, timeout * SLOW
        self.conn = None

    def connection(self):
        if isinstance(self.address, str):
            return UnixConnection(self.address, self.timeout)
        return http.client.HTTPConnection(*self.address, timeout=self.timeout)

    def request(self, method, path, body=None, headers=None, type=None):
        """path as it goes on the wire. body: bytes, or an object sent as JSON."""
        send = {}
        if self.key:
            send["Authorization"] = "Bearer " + self.key
        if body is not None and not isinstance(body, (bytes, bytearray)):
            body, type = json.dumps(body).encode(), type or "application/json"
        if body is not None:
            send["Content-Type"] = type or TENSORS
        send.update(headers or {})
        send = {k: v for k, v in send.items() if v is not None}
        if self.conn is None:
            self.conn = self.connection()
        try:
            try:
                self.conn.request(method, path, body, send)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused while sending: the answer may be there already
            if self.conn.sock is None:
                raise ConnectionResetError("the server went away while it was being asked")
            r = self.conn.getresponse()
            reply = Reply(r.status, r.headers, r.read())
            if r.will_close:
                self.close()
            return reply
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def put(self, path, body=None, **kw):
        return self.request("PUT", path, body, **kw)

    def post(self, path, body=None, **kw):
        return self.request("POST", path, body, **kw)

    def delete(self, path, **kw):
        return self.request("DELETE", path, **kw)

    def close(self):
        if self.conn is not None:
            self.conn.close()
            self.conn = None

    def __del__(self):
        self.close()


def quote(name):
    """An id as one segment of a path."""
    return urllib.parse.quote(name, safe="")


def raw(address, data, timeout=10, half_close=False):
    """Sends bytes on a new connection and returns all bytes until the server closes or falls silent
    for `timeout` seconds."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(timeout * SLOW)
        s.connect(address)
        out = b""
        try:
            s.sendall(data)
            if half_close:
                s.shutdown(socket.SHUT_WR)
            while True:
                part = s.recv(65536)
                if not part:
                    return out
                out += part
        except (socket.timeout, ConnectionError):
            return out


def parse_reply(data):
    """The first reply in raw bytes, as a Reply (Content-Length framing)."""
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    headers = http.client.HTTPMessage()
    for f in fields:
        name, _, value = f.partition(":")
        headers[name] = value.strip()
    length = int(headers.get("Content-Length", len(rest)))
    return Reply(int(first.split(" ")[1]), headers, rest[:length])


def wait_until(condition, what, timeout=30):
    """Polls until condition() is true; its value."""
    end = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout * SLOW:.0f} s for {what}")
        time.sleep(0.01)


# ---- the server ----------------------------------------------------------------------------------

class Server:
    """One `ascribed` process on one store directory. Never two at once on one Server."""

    def __init__(self, store, args=(), env=None, listen="127.0.0.1:0"):
        self.store, self.args, self.env, self.listen = store, list(args), env or {}, listen
        self.process, self.address, self.log, self.ready_seconds = None, None, [], None

    def start(self, create=True, timeout=30):
        """Starts and waits for the ready line. ready_seconds: from exec to that line."""
        command = [program("ascribed"), "--store", self.store, "--listen", self.listen]
        command += ["--create"] if create else []
        self.ready, self.address = threading.Event(), None
        begin = time.monotonic()
        self.process = subprocess.Popen(command + self.args, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env={**os.environ, **self.env})
        self.reader = threading.Thread(target=self._read, args=(self.process, begin), daemon=True)
        self.reader.start()
        end = begin + timeout * SLOW
        while not self.ready.wait(0.02):
            if self.process.poll() is not None:
                self.reader.join(5)
                raise AssertionError(f"ascribed ended with {self.process.returncode} before it was "
                                     f"ready:\n{self.tail()}")
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"ascribed not ready after {timeout * SLOW} s:\n{self.tail()}")
        return self

    def _read(self, process, begin):
        for line in process.stderr:
            text = line.decode("utf-8", "replace").rstrip("\n")
            self.log.append(text)
            found = re.search(r"\bready\b.*?\blisten=(\S+)", text)
            if found and not self.ready.is_set():
                self.ready_seconds = time.monotonic() - begin
                where = found.group(1).strip('"')
                if where.startswith("unix:"):
                    self.address = where[5:]
                else:
                    host, _, port = where.rpartition(":")
                    self.address = (host.strip("[]"), int(port))
                self.ready.set()
        process.stderr.close()

    def tail(self, count=60):
        return "\n".join(self.log[-count:])

    @property
    def url(self):
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def key(self):
        with open(os.path.join(self.store, "admin.key")) as f:
            return f.read().strip()

    def client(self, key=True, timeout=60):
        return Client(self.address, self.key if key is True else key, timeout)

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def rss_kib(self):
        """(resident anonymous memory in KiB, open file descriptors)."""
        with open(f"/proc/{self.process.pid}/status") as f:
            anon = re.search(r"RssAnon:\s+(\d+)", f.read())
        return int(anon.group(1)), len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, timeout=60):
        """SIGTERM; asserts exit 0 and that no sanitizer or require() spoke."""
        if self.process is None:
            return
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"ascribed did not end {timeout * SLOW} s after SIGTERM:\n{self.tail()}")
        self.reader.join(10)
        self.process = None
        self.assert_clean()
        if code != 0:
            raise AssertionError(f"ascribed ended with {code} after SIGTERM:\n{self.tail()}")

    def kill(self):
        """SIGKILL, at once."""
        self.process.kill()
        self.process.wait()
        self.reader.join(10)
        self.process = None
        self.assert_clean()

    def assert_clean(self):
        text = "\n".join(self.log)
        found = REPORTS.search(text)
        if found:
            raise AssertionError("report of the server:\n" + text[max(0, found.start() - 200):][:8000])


def offline(*args, timeout=120, check=None):
    """Runs an offline verb of the daemon: `ascribed verify --store DIR`. Returns CompletedProcess."""
    done = subprocess.run([program("ascribed"), *args], capture_output=True, text=True,
                          timeout=timeout * SLOW, stdin=subprocess.DEVNULL)
    if check is not None and done.returncode != check:
        raise AssertionError(f"ascribed {' '.join(args)}: exit {done.returncode}, not {check}\n"
                             f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    found = REPORTS.search(done.stderr)
    if found:
        raise AssertionError(f"ascribed {' '.join(args)}:\n{done.stderr[-8000:]}")
    return done


# ---- test cases ----------------------------------------------------------------------------------

class Case(unittest.TestCase):
    """Scratch directory, and assertions over replies."""
    maxDiff = None

    def scratch(self):
        path = tempfile.mkdtemp(prefix="ascribe-test-")
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path

    def serve(self, args=(), env=None, listen="127.0.0.1:0", store=None):
        """A server for this test alone, stopped (and checked) at its end."""
        server = Server(store or os.path.join(self.scratch(), "store"), args, env, listen).start()
        self.addCleanup(server.stop)
        return server

    def assert_status(self, reply, *statuses):
        self.assertIn(reply.status, statuses, repr(reply))
        return reply

    def assert_problem(self, reply, status, code, field=None, index=None, limit=None):
        """The reply is the problem+json of the document, with this code and these members."""
        self.assertEqual((reply.status, reply.headers.get("Content-Type")),
                         (status, "application/problem+json"), repr(reply))
        p = reply.json()
        self.assertEqual(p.get("code"), code, repr(reply))
        self.assertEqual(p.get("status"), status)
        self.assertEqual(p.get("type"), "about:blank")
        for member in ("title", "detail", "request_id"):
            self.assertIsInstance(p.get(member), str, member)
            self.assertTrue(p[member], member)
        self.assertNotIn("\n", p["detail"])
        self.assertLessEqual(set(p), {"type", "title", "status", "code", "detail", "request_id",
                                      "field", "index", "limit"})
        for member, value in (("field", field), ("index", index), ("limit", limit)):
            if value is not None:
                self.assertEqual(p.get(member), value, f"{member} of {p}")
        return p

    def create(self, client, name, dim, dtype="f32", **more):
        return self.assert_status(client.put(f"/v1/corpora/{name}", {"dim": dim, "dtype": dtype, **more}),
                                  201).json()

    def ingest(self, client, corpus, name, gradients, examples, dtype="f32", status=201):
        reply = client.put(f"/v1/corpora/{corpus}/batches/{name}", batch(gradients, examples, dtype))
        return self.assert_status(reply, status).json()

    def wait_job(self, client, reply, timeout=60):
        """Follows the 202 of a job to its end; the finished job."""
        self.assert_status(reply, 202)
        where = reply.headers["Location"]
        self.assertEqual(where, "/v1/jobs/" + reply.json()["job"]["id"])

        def ended():
            job = self.assert_status(client.get(where), 200).json()
            job = job.get("job", job)
            return job if job["state"] in ("succeeded", "failed", "cancelled") else None
        return wait_until(ended, f"job {where}", timeout)


class ServerCase(Case):
    """One server for all tests of the class; args and env are the class's to set."""
    args, env = (), None

    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix="ascribe-test-")
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        cls.server = Server(os.path.join(cls.base, "store"), cls.args, cls.env)
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()

    def setUp(self):
        self.client = self.server.client()
        self.addCleanup(self.client.close)


def main():
    unittest.main(verbosity=2)


if __name__ == "__main__":
    sys.exit("harness.py is imported by the tests")
