"""client.py - a client of one ascribed server: everything that is not about one corpus.

Speaks the wire of docs/protocol.md through wire.py and nothing else.
"""
from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import records, safetensors, wire
from .corpus import Corpus
from .errors import ArgumentError, Busy, JobFailed, NetworkError, NotFound
from .progress import Progress

DEFAULT_URL = "http://127.0.0.1:7171"

Json = Dict[str, Any]


class Client:
    """A server.

        client = ascribe.Client("http://127.0.0.1:7171", store="/data/store")
        corpus = client.create_corpus("wordnet", dim=16384)
        corpus.ingest(gradients, examples)
        print(corpus.query(gradient, k=10, opponents=5))

    url       `http://HOST:PORT`, `https://HOST[:PORT][/PREFIX]`, `unix:PATH`; by default
              ASCRIBE_SERVER, else http://127.0.0.1:7171
    key       the key itself; else of `key_file`, of ASCRIBE_KEY, of `store`/admin.key (or
              ASCRIBE_STORE's). Without any the request is sent bare, and the server says 401
    timeout   seconds in which no byte moves: the attempt has failed
    retries   further attempts of what is safe to send again: everything but what starts a job or
              makes a key (those only while the server cannot have begun)

    Any thread may use it; each request has a connection of its own. A context manager.
    """

    def __init__(self, url: Optional[str] = None, key: Optional[str] = None, *,
                 key_file: Union[str, os.PathLike, None] = None,
                 store: Union[str, os.PathLike, None] = None, timeout: float = 90.0,
                 retries: int = 5):
        url = url or os.environ.get("ASCRIBE_SERVER") or DEFAULT_URL
        self._wire = wire.Wire(url, wire.find_key(key, key_file, store), timeout, retries)

    def __repr__(self) -> str:
        return f"<Client {self._wire.address.text}>"

    def close(self) -> None:
        """Closes idle connections."""
        self._wire.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: Any) -> None:
        self.close()

    def request(self, method: str, path: str, params: Optional[Mapping[str, Any]] = None,
                body: Any = None) -> Any:
        """Any request whose answer is JSON: what this version of the package does not name."""
        return self._wire.json(method, path, params, body)

    def _delete(self, path: str) -> None:
        """What is gone after a further attempt may be gone by the one before."""
        try:
            self._wire.json("DELETE", path)
        except NotFound as e:
            if e.attempts == 1:
                raise

    # --- the server -----------------------------------------------------------------------------

    def healthy(self) -> bool:
        """Whether the process lives (no key needed)."""
        try:
            return self._wire.bytes("GET", "/healthz").strip() == b"ok"
        except NetworkError:
            return False

    def ready(self) -> bool:
        """Whether it takes requests; False while it shuts down or cannot be reached."""
        once = wire.Wire(self._wire.address.text, self._wire.key, self._wire.timeout, 0)
        try:
            return bool(once.json("GET", "/readyz")["ready"])
        except (Busy, NetworkError):
            return False
        finally:
            once.close()

    def info(self) -> Json:
        """Version, simd, engines, dtypes, limits, rates, uptime."""
        return self._wire.json("GET", "/v1/info")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._wire.bytes("GET", "/metrics").decode()

    def openapi(self) -> Json:
        """The specification of what works."""
        return self._wire.json("GET", "/openapi.json")

    # --- corpora --------------------------------------------------------------------------------

    def create_corpus(self, name: str, dim: Optional[int] = None, *, dtype: Optional[str] = None,
                      blocks: Union[Sequence[Tuple[str, int]], Sequence[Json], None] = None,
                      encoded: Optional[bool] = None, projection: Optional[Json] = None,
                      second_moment: Optional[Json] = None, loss: Optional[str] = None,
                      model: Optional[str] = None, **more: Any) -> Corpus:
        """Creates a corpus; the same definition again is no error, another is a Conflict.

        dim     numbers in a gradient, 1 to 1,048,576; may be left out when blocks say it
        dtype   what is stored: "f32" (default), "f16", "bf16"
        blocks  [(name, dim), ...] or [{"name", "dim"}, ...]; they add up to dim
        The rest is recorded as given and part of the fingerprint. A whole definition, as
        `GradientCollector.definition()` gives, is passed with **.
        """
        if blocks is not None:
            named: List[Json] = [dict(b) if isinstance(b, Mapping) else {"name": b[0], "dim": b[1]}
                                 for b in blocks]
            blocks, dim = named, sum(b["dim"] for b in named) if dim is None else dim
        if dim is None:
            raise ArgumentError("a corpus needs its dim")
        body = {"dim": dim, "dtype": dtype, "blocks": blocks, "encoded": encoded,
                "projection": projection, "second_moment": second_moment, "loss": loss,
                "model": model, **more}
        corpus = Corpus(self, name)
        answer = self._wire.json("PUT", corpus._path, None,
                                 {k: v for k, v in body.items() if v is not None})
        corpus.fingerprint = answer["fingerprint"]
        return corpus

    def corpus(self, name: str, fingerprint: Optional[str] = None) -> Corpus:
        """A corpus by its name. Nothing is sent."""
        return Corpus(self, name, fingerprint)

    def corpora(self) -> List[records.CorpusInfo]:
        """All corpora, with numbers and without manifests."""
        return [records.CorpusInfo.of(c) for c in self._wire.json("GET", "/v1/corpora")["corpora"]]

    # --- the encoder ------------------------------------------------------------------------------

    def encoder(self) -> records.Encoder:
        """The program behind the server that turns text into gradients, as it is now."""
        return records.Encoder.of(self._wire.json("GET", "/v1/encoder"))

    def continue_prompt(self, prompt: str, tokens: int = 8) -> str:
        """What the encoder's model says after the prompt, at most so many tokens."""
        body = {"prompt": prompt, "tokens": tokens}
        return self._wire.json("POST", "/v1/encoder/continue", None, body)["output"]

    def encode(self, prompt: str, target: str) -> records.EncodedQuery:
        """The gradient of a target after a prompt, to query with: `corpus.query(e.gradient)`."""
        body = {"prompt": prompt, "target": target}
        reply = self._wire.send("POST", "/v1/encoder/encode", None, body, wire.UNSENT)
        tensors, notes = safetensors.loads(reply.data)
        return records.EncodedQuery(prompt, target, tensors["queries"][0], float(notes["loss"]))

    # --- jobs -----------------------------------------------------------------------------------

    def jobs(self) -> List[records.Job]:
        """Newest first."""
        return [records.Job.of(j) for j in self._wire.json("GET", "/v1/jobs")["jobs"]]

    def job(self, id: str) -> records.Job:
        """One job as it is now."""
        return records.Job.of(self._wire.json("GET", "/v1/jobs/" + wire.segment(id)))

    def cancel_job(self, id: str) -> records.Job:
        """Asks a job to stop; the job as it is now. Scope admin."""
        return records.Job.of(self._wire.json("DELETE", "/v1/jobs/" + wire.segment(id)))

    def wait(self, job: Union[str, records.Job], progress: Optional[bool] = None,
             timeout: Optional[float] = None) -> records.Job:
        """Follows a job to its end. JobFailed unless it succeeded; TimeoutError after `timeout`
        seconds (the job goes on, as it does when you interrupt this)."""
        now = job if isinstance(job, records.Job) else self.job(job)
        begun, pause = time.monotonic(), 0.02
        with Progress(f"{now.kind} {now.id}", 1.0, progress, "of 1") as bar:
            while not now.ended:
                if timeout is not None and time.monotonic() - begun > timeout:
                    raise TimeoutError(f"{now.kind} {now.id} is {now.state} after {timeout} s")
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
                now = self.job(now.id)
                bar.reach(now.progress, f"{now.eta_s:.0f} s left" if now.eta_s else "")
        if now.state != "succeeded":
            raise JobFailed(now)
        return now

    def _follow(self, answer: Json, wait: bool, progress: Optional[bool]) -> records.Job:
        job = records.Job.of(answer)
        return self.wait(job, progress) if wait else job

    # --- administration (scope admin) -------------------------------------------------------------

    def backup(self, wait: bool = True, progress: Optional[bool] = None,
               base: Optional[str] = None) -> records.Job:
        """Copies the store below STORE/backups/; the job's result has the name. Shards that have not
        changed since the backup `base` are shared with it: the latest, or "none" for a whole copy."""
        return self._follow(self._wire.json("POST", "/v1/admin/backup", {"base": base}), wait,
                            progress)

    def verify(self, wait: bool = True, progress: Optional[bool] = None) -> records.Job:
        """Checks everything that is stored; the job's result has counts and findings."""
        return self._follow(self._wire.json("POST", "/v1/admin/verify"), wait, progress)

    def compact(self, corpus: Optional[str] = None, wait: bool = True,
                progress: Optional[bool] = None) -> records.Job:
        """Rewrites a corpus (or all) without what was deleted."""
        return self._follow(self._wire.json("POST", "/v1/admin/compact", {"corpus": corpus}), wait,
                            progress)

    def keys(self) -> List[records.Key]:
        """Keys, without their secrets."""
        return [records.Key.of(k) for k in self._wire.json("GET", "/v1/admin/keys")["keys"]]

    def create_key(self, scope: str = "read", label: Optional[str] = None,
                   corpus: Optional[str] = None, expires_s: Optional[int] = None,
                   rate: Optional[int] = None) -> records.Key:
        """Makes a key; `secret` of the answer is shown only this once. corpus: for that one alone;
        expires_s: it ends so many seconds from now; rate: requests a second."""
        body = {"scope": scope, "label": label, "corpus": corpus, "expires_s": expires_s,
                "rate": rate}
        return records.Key.of(self._wire.json("POST", "/v1/admin/keys", None,
                                              {k: v for k, v in body.items() if v is not None}))

    def rotate_key(self, id: str, overlap_s: Optional[int] = None) -> records.Key:
        """A second key with the same rights; the old one ends after the overlap (a day)."""
        body = {} if overlap_s is None else {"overlap_s": overlap_s}
        path = "/v1/admin/keys/" + wire.segment(id) + "/rotate"
        return records.Key.of(self._wire.json("POST", path, None, body))

    def revoke_key(self, id: str) -> None:
        """Ends a key, effective at once."""
        self._delete("/v1/admin/keys/" + wire.segment(id))
