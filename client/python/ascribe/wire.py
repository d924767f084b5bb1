"""wire.py - one request over HTTP: connections, the key, attempts and the pauses between them.

The only file that opens sockets. Any thread may use a Wire: each request takes a kept-alive
connection of its own. What may be sent again is sent again after a refused or broken connection, a
timeout, or an answer 408, 429, 502, 503 or 504; another 4xx never is. A plain connection never goes through a
proxy, so that the key is not shown to one.
"""
from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import threading
import time
import urllib.parse
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from . import errors
from .safetensors import Buffer

TENSORS = "application/vnd.safetensors"
PAUSE_FIRST, PAUSE_MAX = 0.2, 30.0  # seconds; doubled from attempt to attempt
PROBLEM_MAX = 1 << 20  # bytes of an error's body that are read

SAFE = "safe"  # may be carried out twice without harm
UNSENT = "unsent"  # sent again only when the server cannot have begun it


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Address:
    """Where a server is: `http://HOST:PORT`, `https://HOST[:PORT][/PREFIX]`, or `unix:PATH`."""

    def __init__(self, text: str):
        self.text, self.prefix, self.path = text, "", ""
        self.host, self.port = "localhost", None
        if text.startswith("unix:"):
            self.scheme = "unix"
            self.path = text[5:][2:] if text.startswith("unix://") else text[5:]
            if not self.path:
                raise errors.ArgumentError("unix: needs the path of a socket", "bad_url")
            return
        try:
            url = urllib.parse.urlsplit(text)
            self.scheme, self.host, self.port = url.scheme, url.hostname or "", url.port
        except ValueError as e:
            raise errors.ArgumentError(f"{text!r}: {e}", "bad_url") from None
        if self.scheme not in ("http", "https") or not self.host or url.query or url.fragment or \
                url.username is not None:
            raise errors.ArgumentError(f"{text!r} is none of http://HOST:PORT, "
                                       "https://HOST[:PORT][/PREFIX], unix:PATH", "bad_url")
        self.prefix = url.path.rstrip("/")

    def open(self, timeout: float) -> http.client.HTTPConnection:
        if self.scheme == "unix":
            return _UnixConnection(self.path, timeout)
        if self.scheme == "https":
            return http.client.HTTPSConnection(self.host, self.port, timeout=timeout,
                                               context=ssl.create_default_context())
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)


def find_key(key: Optional[str], key_file: Union[str, os.PathLike, None],
             store: Union[str, os.PathLike, None]) -> Optional[str]:
    """The key: as given, else of a file, else ASCRIBE_KEY, else STORE/admin.key (docs/cli.md)."""
    if key is not None:
        return key
    if key_file is None:
        if os.environ.get("ASCRIBE_KEY"):
            return os.environ["ASCRIBE_KEY"]
        store = store or os.environ.get("ASCRIBE_STORE")
        if not store:
            return None
        key_file = os.path.join(store, "admin.key")
    try:
        with open(key_file, encoding="ascii") as f:
            words = f.read(4096).split()
    except (OSError, UnicodeDecodeError) as e:
        raise errors.ArgumentError(f"{os.fspath(key_file)}: {e}", "no_key") from None
    if not words:
        raise errors.ArgumentError(f"{os.fspath(key_file)} is empty", "no_key")
    return words[0]


class Reply:
    """An answer below 300. `data` is its body; of a stream, `read` gives it by pieces: close it."""

    def __init__(self, wire: Wire, connection: http.client.HTTPConnection,
                 response: http.client.HTTPResponse, attempts: int):
        self.wire, self.response = wire, response
        self.connection: Optional[http.client.HTTPConnection] = connection
        self.status, self.headers, self.attempts = response.status, response.headers, attempts
        self.data = b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all that are left without it). A cut stream is a NetworkError."""
        try:
            data = self.response.read(None if size < 0 else size)
        except (OSError, http.client.HTTPException) as e:
            self.close()
            raise errors.NetworkError("cut", f"the answer broke off: {_words(e)}", self.attempts) \
                from e
        # http.client says nothing when a sized read meets an early end; the length left does.
        if size > 0 and not data and self.response.length:
            left = self.response.length
            self.close()
            raise errors.NetworkError("cut", f"the answer broke off with {left} bytes to come",
                                      self.attempts)
        return data

    def close(self) -> None:
        """Gives the connection back when the body was read to its end, else closes it."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.wire.give_back(connection, self.response)


class Wire:
    """Requests to one server. timeout: seconds in which no byte moves; retries: further attempts."""

    def __init__(self, url: str, key: Optional[str] = None, timeout: float = 90.0, retries: int = 5,
                 pause: Callable[[float], None] = time.sleep):
        if retries < 0 or timeout <= 0:
            raise errors.ArgumentError(f"retries {retries}: not negative; timeout {timeout}: above 0")
        self.address, self.key = Address(url), key
        self.timeout, self.retries, self.pause = timeout, retries, pause
        self.idle: List[http.client.HTTPConnection] = []
        self.lock = threading.Lock()

    def close(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()

    def give_back(self, connection: http.client.HTTPConnection,
                  response: http.client.HTTPResponse) -> None:
        if response.isclosed() and not response.will_close:
            with self.lock:
                self.idle.append(connection)
        else:
            response.close()
            connection.close()

    def json(self, method: str, path: str, params: Optional[Mapping[str, Any]] = None,
             body: Any = None, retry: Optional[str] = None, **more: Any) -> Any:
        """A request whose answer is JSON (None when it has no body)."""
        return self.take_json(self.send(method, path, params, body, retry, **more))

    @staticmethod
    def take_json(reply: Reply) -> Any:
        """The body of an answer as JSON (None when it has no body)."""
        if not reply.data:
            return None
        try:
            return json.loads(reply.data)
        except ValueError:
            raise errors.ProtocolError(f"the answer is not JSON: {reply.data[:80]!r}") from None

    def bytes(self, method: str, path: str, params: Optional[Mapping[str, Any]] = None,
              body: Any = None, retry: Optional[str] = None) -> bytes:
        """A request whose answer is taken whole, as it is."""
        return self.send(method, path, params, body, retry).data

    def send(self, method: str, path: str, params: Optional[Mapping[str, Any]] = None,
             body: Any = None, retry: Optional[str] = None,
             headers: Optional[Mapping[str, str]] = None, stream: bool = False) -> Reply:
        """Sends a request, again where that is safe, and returns an answer below 300.

        path is as on the wire (see `segment`); params of None are left out. body: None, a list of
        buffers (a tensor file), or an object sent as JSON. Without `retry`, a POST is UNSENT and
        everything else SAFE. stream: the body is left to the caller (and to no further attempt).
        """
        retry = retry or (UNSENT if method == "POST" else SAFE)
        target = self.address.prefix + path + query_string(params)
        parts, fields = self._prepare(body, headers)
        for attempt in range(1, self.retries + 2):
            try:
                reply = self._attempt(method, target, parts, fields, retry, attempt)
                if not stream:
                    reply.data = reply.read()
                    reply.close()
                return reply
            except errors.AscribeError as e:
                if attempt > self.retries or not _again(e, retry):
                    raise
                self.pause(pause_before(attempt, getattr(e, "retry_after", None)))
        raise AssertionError("the last attempt returns or raises")

    def _prepare(self, body: Any, headers: Optional[Mapping[str, str]]
                 ) -> Tuple[Optional[List[Buffer]], Dict[str, str]]:
        fields = dict(headers or {})
        if self.key:
            fields["Authorization"] = "Bearer " + self.key
        if body is None:
            return None, fields
        if isinstance(body, list):
            fields["Content-Type"] = TENSORS
        else:
            body = [json_bytes(body)]
            fields["Content-Type"] = "application/json"
        fields["Content-Length"] = str(sum(len(part) for part in body))
        return body, fields

    def _connection(self, fresh: bool) -> Tuple[http.client.HTTPConnection, bool]:
        """(connection, whether it was idle). The server closes idle ones after a while."""
        if not fresh:
            with self.lock:
                if self.idle:
                    return self.idle.pop(), True
        return self.address.open(self.timeout), False

    def _attempt(self, method: str, target: str, parts: Optional[List[Buffer]],
                 fields: Mapping[str, str], retry: str, attempt: int) -> Reply:
        # What must not happen twice goes over a new connection: then a broken one means something.
        connection, reused = self._connection(fresh=retry == UNSENT)
        try:
            if connection.sock is None:
                try:
                    connection.connect()
                except OSError as e:
                    raise errors.NetworkError(
                        "connection", f"{self.address.text}: {_words(e)}", attempt) from e
            try:
                connection.request(method, target, None if parts is None else iter(parts), fields)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused while sending: the answer may be there already
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            if reused and not isinstance(e, TimeoutError):  # it went stale: not an attempt
                self.close()
                return self._attempt(method, target, parts, fields, retry, attempt)
            word = "timeout" if isinstance(e, TimeoutError) else "broken"
            raise errors.NetworkError(word, f"{method} {target}: {_words(e)}", attempt) from e
        except BaseException:
            connection.close()
            raise
        reply = Reply(self, connection, response, attempt)
        if response.status < 300:
            return reply
        raise _problem(reply, attempt)


def _problem(reply: Reply, attempt: int) -> errors.AscribeError:
    """The error that an answer is."""
    try:
        data = reply.read(PROBLEM_MAX)
    except errors.NetworkError as e:
        return e
    finally:
        reply.close()
    if reply.status < 400:
        return errors.ProtocolError(f"the server answered {reply.status}")
    try:
        problem = json.loads(data)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):  # a proxy's page
        problem = {"detail": f"HTTP {reply.status} {reply.response.reason}"}
    after = reply.headers.get("Retry-After", "")
    return errors.kind_of(reply.status)(reply.status, problem,
                                        float(after) if after.isdigit() else None, attempt)


def _again(e: errors.AscribeError, retry: str) -> bool:
    if isinstance(e, errors.NetworkError):
        return retry == SAFE or e.code == "connection"
    # 408, 429 and 503 are said before any work begins; 502 and 504 may follow some.
    return isinstance(e, errors.AnswerError) and \
        (e.status in (408, 429, 503) or (retry == SAFE and e.status in (502, 504)))


def pause_before(attempt: int, retry_after: Optional[float]) -> float:
    """Seconds after failed attempt number `attempt`: doubling, spread by a quarter, bounded."""
    pause = PAUSE_FIRST * 2 ** min(attempt - 1, 5) * (1 + random.random() / 4)
    return min(max(pause, retry_after or 0.0), PAUSE_MAX)


def _words(e: BaseException) -> str:
    return str(e) or type(e).__name__


def json_bytes(value: Any) -> bytes:
    """Compact JSON; what JSON cannot say is an ArgumentError."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError) as e:
        raise errors.ArgumentError(f"not JSON: {e}") from None


def segment(name: str) -> str:
    """A name or id as one segment of a path."""
    if not isinstance(name, str) or not name:
        raise errors.ArgumentError(f"a name or id is a string that is not empty, not {name!r}")
    if name in (".", ".."):  # would be another path to some proxies
        return name.replace(".", "%2E")
    return urllib.parse.quote(name, safe="")


def query_string(params: Optional[Mapping[str, Any]]) -> str:
    """`?a=1&b=x`, without what is None; True and False as 1 and 0."""
    pairs = [(k, int(v) if isinstance(v, bool) else v) for k, v in (params or {}).items()
             if v is not None]
    return "?" + urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote) if pairs else ""
