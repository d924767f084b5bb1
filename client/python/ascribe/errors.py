"""errors.py - everything that can go wrong, as one family under AscribeError.

What the server said travels whole: its stable `code`, its sentence, the field and row at fault
(docs/protocol.md, "Errors first" and "Codes"). No message is made up where the server has one.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional, Type

if TYPE_CHECKING:
    from .records import Job


class AscribeError(Exception):
    """The root of the family. `code` is a stable word, `detail` one line for a person."""

    def __init__(self, code: str, detail: str):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ArgumentError(AscribeError, ValueError):
    """An argument is wrong; nothing was sent."""

    def __init__(self, detail: str, code: str = "bad_argument"):
        super().__init__(code, detail)


class FormatError(AscribeError, ValueError):
    """A safetensors file is malformed."""

    def __init__(self, detail: str):
        super().__init__("bad_safetensors", detail)


class NetworkError(AscribeError):
    """No whole answer came: refused, reset, timed out. `attempts` is how often it was tried."""

    def __init__(self, code: str, detail: str, attempts: int = 1):
        super().__init__(code, detail)
        self.attempts = attempts


class ProtocolError(AscribeError):
    """The answer is not one of protocol version 1: is this an ascribe server?"""

    def __init__(self, detail: str):
        super().__init__("unexpected_answer", detail)


class AnswerError(AscribeError):
    """The server answered 4xx or 5xx.

    status      the HTTP status
    request_id  to find the request in the server's log, or None
    field       the parameter, member or tensor at fault, or None
    index       its row or line (from 0), or the byte of malformed text, or None
    limit       the bound that was passed, or None
    retry_after seconds the server asked to wait, or None
    attempts    how many times the request was sent
    """

    def __init__(self, status: int, problem: Mapping[str, Any],
                 retry_after: Optional[float] = None, attempts: int = 1):
        code = problem.get("code") or f"http_{status}"
        super().__init__(code, problem.get("detail") or problem.get("title") or "no detail given")
        self.status = status
        self.request_id: Optional[str] = problem.get("request_id")
        self.field: Optional[str] = problem.get("field")
        self.index: Optional[int] = problem.get("index")
        self.limit: Optional[int] = problem.get("limit")
        self.retry_after = retry_after
        self.attempts = attempts
        self.row: Optional[int] = None  # of a whole ingest: `index` is within one batch of it

    def __str__(self) -> str:
        where = "" if self.row is None else f" (row {self.row} of the ingest)"
        return super().__str__() + where


class Refused(AnswerError):
    """4xx: the same request will be refused again."""


class Unauthorized(Refused):
    """401 and 403: no key, an unknown one, or one without the scope."""


class NotFound(Refused):
    """404: no such corpus, example, batch, task, job, saved query or key."""


class Conflict(Refused):
    """409: something else stands under this name, or the corpus is not in the state for it."""


class BadInput(Refused):
    """400, 413, 415, 422: what was sent is not what the route takes; `field`, `index` say where."""


class ServerFailed(AnswerError):
    """5xx: a fault of the server or its disk, or (Busy) no room for now."""


class Busy(ServerFailed):
    """429 (the key's rate), 503 and 504: try again later; the retries of this client are used up."""


class JobFailed(AscribeError):
    """A job ended as failed or cancelled; `job` is its last state."""

    def __init__(self, job: Job):
        error = job.error or {}
        word = "was cancelled" if job.state == "cancelled" else "failed"
        super().__init__(error.get("code") or job.state,
                         f"{job.kind} {job.id} {word}" +
                         (f": {error['detail']}" if error.get("detail") else ""))
        self.job = job


def kind_of(status: int) -> Type[AnswerError]:
    """The class for an HTTP status of 400 or more."""
    if status in (401, 403):
        return Unauthorized
    if status == 404:
        return NotFound
    if status == 409:
        return Conflict
    if status in (400, 413, 415, 422):
        return BadInput
    if status in (429, 503, 504):
        return Busy
    return Refused if status < 500 else ServerFailed
