"""corpus.py - the routes of one corpus: ingest, look, ask, fit, tasks, saved queries.

Made by `Client.corpus` or `Client.create_corpus`; holds a name and the client's connections, no
state of the server. Any thread may use it.
"""
from __future__ import annotations

import collections
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import (TYPE_CHECKING, Any, Deque, Dict, Iterable, Iterator, List, Optional, Sequence,
                    Tuple, Union)

import numpy as np

from . import batches, records, results, safetensors, wire
from .errors import AnswerError, ArgumentError, NotFound
from .progress import Progress

if TYPE_CHECKING:
    from .client import Client

Sent = Future[Tuple[records.Receipt, bool]]  # and whether the batch was sent now

TARGET_MAX = 3500  # bytes of a request target, of the server's 4 KiB


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentError(f"{name}: a whole number, not {value!r}")
    return int(value)


class Corpus:
    """A corpus by its name. `fingerprint`, when set, goes along with every batch and query: the
    server refuses them if the corpus is another one by now (409 fingerprint_mismatch)."""

    def __init__(self, client: Client, name: str, fingerprint: Optional[str] = None):
        self.client, self.name, self.fingerprint = client, name, fingerprint
        self._wire = client._wire
        self._path = "/v1/corpora/" + wire.segment(name)

    def __repr__(self) -> str:
        return f"<Corpus {self.name} of {self._wire.address.text}>"

    def _headers(self) -> Dict[str, str]:
        return {"X-Ascribe-Fingerprint": self.fingerprint} if self.fingerprint else {}

    def info(self) -> records.CorpusInfo:
        """Manifest and numbers."""
        return records.CorpusInfo.of(self._wire.json("GET", self._path))

    def drop(self) -> None:
        """Drops the corpus with everything in it. There is no way back. Scope admin."""
        self.client._delete(self._path)

    # --- ingest ---------------------------------------------------------------------------------

    def put_batch(self, name: str, gradients: Any, examples: Iterable[batches.ExampleLike],
                  dtype: Optional[str] = None) -> records.Receipt:
        """Stores one batch: all of it or nothing, durable when this returns, safe to repeat.

        gradients  [n, dim] float32 or float16, n from 1 to 65,536; raw: the server normalises
        examples   n ids, or objects {"id", "text", "meta"}
        dtype      how the gradients are sent: "f32", "f16", "bf16"
        """
        return self._put(batches.Batch(name, batches.body(gradients, examples, dtype), 0, 0))

    def _put(self, b: batches.Batch) -> records.Receipt:
        reply = self._wire.send("PUT", f"{self._path}/batches/{wire.segment(b.name)}", body=b.body,
                                headers=self._headers())
        return records.Receipt.of(self._wire.take_json(reply), created=reply.status == 201)

    def batch(self, name: str) -> records.Receipt:
        """What became of a batch. NotFound when none of that name was stored."""
        return records.Receipt.of(
            self._wire.json("GET", f"{self._path}/batches/{wire.segment(name)}"))

    def ingest(self, gradients: Any, examples: Iterable[batches.ExampleLike], *,
               dtype: Optional[str] = None, rows_per_batch: Optional[int] = None, jobs: int = 2,
               progress: Optional[bool] = None) -> records.Ingested:
        """Stores a whole matrix [n, dim] with its n examples; options as for `ingest_stream`. A
        memory-mapped array (`np.load(path, mmap_mode="r")`) is read a batch at a time."""
        mapped = isinstance(gradients, np.memmap)
        x = gradients if mapped else batches.matrix(gradients, "gradients")
        examples = list(examples)
        if x.ndim != 2 or len(x) != len(examples):
            raise ArgumentError(f"gradients {list(x.shape)} and {len(examples)} examples")
        step = rows_per_batch or 256
        pairs = ((x[i:i + step], examples[i:i + step]) for i in range(0, len(x), step))
        return self.ingest_stream(pairs, dtype=dtype, rows_per_batch=rows_per_batch, jobs=jobs,
                                  total=len(x), progress=progress)

    def ingest_stream(self, pairs: Iterable[Tuple[Any, Iterable[batches.ExampleLike]]], *,
                      dtype: Optional[str] = None, rows_per_batch: Optional[int] = None,
                      jobs: int = 2, total: Optional[int] = None,
                      progress: Optional[bool] = None) -> records.Ingested:
        """Stores a stream of (gradients [n, dim], n examples), cut into batches of its own.

        rows_per_batch  by default as many as make 32 MiB, at most 4,096
        jobs            batches in flight; 1 keeps sequence numbers in the order of the rows
        total           rows to expect, for the bar
        progress        True, False, or None: where somebody is looking

        A run that broke is run again, with the same call: before a batch is sent, the server is
        asked for it by name (its position and a digest of its bytes). Batches whose bytes changed
        are sent, and their examples left out one by one as duplicates of an id. On an error
        nothing of the failing batch is stored, and `row` of the error says where in the stream.
        """
        if not 1 <= _whole("jobs", jobs) <= 64:
            raise ArgumentError(f"jobs {jobs}: 1 to 64")
        begun, stored, duplicates, sent, already = time.monotonic(), 0, 0, 0, 0
        running: Deque[Tuple[batches.Batch, Sent]] = collections.deque()
        with Progress(f"ingest {self.name}", total, progress) as bar, \
                ThreadPoolExecutor(jobs) as pool:
            def settle() -> None:
                nonlocal stored, duplicates, sent, already
                b, future = running.popleft()
                receipt, now = future.result()
                if now:
                    stored, duplicates = stored + receipt.examples, duplicates + receipt.duplicates
                    sent += 1
                else:
                    already += 1
                bar.add(b.rows)

            try:
                for b in batches.cut(pairs, dtype, rows_per_batch):
                    running.append((b, pool.submit(self._put_once, b)))
                    if len(running) >= jobs:
                        settle()
                while running:
                    settle()
            finally:
                for _, future in running:
                    future.cancel()
        return records.Ingested(stored, duplicates, sent, already, time.monotonic() - begun)

    def _put_once(self, b: batches.Batch) -> Tuple[records.Receipt, bool]:
        """(receipt, whether it was sent now)."""
        try:
            return self.batch(b.name), False
        except NotFound as e:
            if e.code != "unknown_batch":
                raise
        try:
            return self._put(b), True
        except AnswerError as e:
            e.row = None if e.index is None else b.first + e.index
            raise

    # --- examples -------------------------------------------------------------------------------

    def examples(self, after: Optional[str] = None, limit: int = 100,
                 filter: Optional[str] = None) -> records.Page:
        """One page of live examples in ingest order, after a page's `next`; limit 1 to 1,000."""
        a = self._wire.json("GET", f"{self._path}/examples",
                            {"after": after, "limit": limit, "filter": filter})
        return records.Page([records.Example.of(e) for e in a["examples"]], a["next"],
                            records.Damage.of(a))

    def iter_examples(self, filter: Optional[str] = None, page: int = 1000
                      ) -> Iterator[records.Example]:
        """All live examples in ingest order, page by page."""
        after: Optional[str] = None
        while True:
            got = self.examples(after, page, filter)
            yield from got.examples
            after = got.next
            if after is None:
                return

    def example(self, id: str) -> records.Example:
        """One example."""
        return records.Example.of(
            self._wire.json("GET", f"{self._path}/examples/{wire.segment(id)}"))

    def encoding(self, id: str) -> records.Encoding:
        """One example's stored unit vector, float32 [dim], and its norm."""
        data = self._wire.bytes("GET", f"{self._path}/examples/{wire.segment(id)}/encoding")
        return records.Encoding.of(*safetensors.loads(data))

    def delete_example(self, id: str) -> None:
        """Takedown: effective at once, also for queries that begin later."""
        self.client._delete(f"{self._path}/examples/{wire.segment(id)}")

    def norms(self, bins: int = 64, filter: Optional[str] = None) -> results.Norms:
        """How long the stored examples are: extremes, median, and counts in bins of equal ratio."""
        return results.Norms.of(self._wire.json("GET", f"{self._path}/norms",
                                                {"bins": bins, "filter": filter}))

    # --- asking ---------------------------------------------------------------------------------

    def query(self, queries: Any = None, k: int = 10, opponents: int = 0, *,
              saved: Optional[str] = None, like: Optional[str] = None, task: Optional[str] = None,
              score: str = "cosine", filter: Optional[str] = None, text: bool = True,
              engine: str = "auto", precision: str = "certified", delta: Optional[float] = None,
              blocks: bool = False, percentile: bool = False, group: Optional[str] = None,
              histogram: Optional[int] = None, ids: Optional[Sequence[str]] = None,
              dtype: Optional[str] = None) -> results.Answer:
        """The most influential examples for each query gradient, and those that speak against.

        queries     raw gradients [q, dim] or [dim], q up to 1,024; or `saved`: a saved query's name;
                    or `like`: an example's id, for the examples nearest to it
        k           proponents of each, 0 to 10,000; opponents likewise
        task        score through this task; score "cosine", or "dot": lengths left in
        filter      only examples for which the expression holds
        text        False: hits without text and meta
        engine      "auto", "tiered", "flat", "scan": the same answer by each
        precision   "probabilistic" rests on a bound that fails with chance `delta` (1e-9) a query
        blocks      each hit's share of the score by block of the gradient
        percentile  each hit's place among all scores
        group       "meta.FIELD": the sums of all scores by a field
        histogram   all scores in so many bins, 8 to 512
        ids         up to 1,000 example ids: where each stands among all, exactly

        Returns one QueryResult a query row, with scores as float64, bit for bit.
        """
        params: Dict[str, Any] = {
            "k": k, "opponents": opponents or None, "saved": saved, "like": like, "task": task,
            "score": None if score == "cosine" else score, "filter": filter,
            "text": None if text else False, "engine": None if engine == "auto" else engine,
            "precision": None if precision == "certified" else precision, "delta": delta,
            "blocks": blocks or None, "percentile": percentile or None, "group": group,
            "histogram": histogram}
        if sum(given is not None for given in (queries, saved, like)) != 1:
            raise ArgumentError("a query is gradients, the name of a saved one, or an example's id")
        if isinstance(ids, str):
            raise ArgumentError("ids: a sequence of ids, not one string")
        reply = self._ask("query", queries, params, dtype,
                          members=None if ids is None else {"ids": list(ids)})
        return results.Answer.of(self._wire.take_json(reply))

    def explain(self, id: str, query: Any = None, *, saved: Optional[str] = None,
                task: Optional[str] = None, score: str = "cosine") -> records.Explanation:
        """What each token of an example adds to its score on one query: a raw gradient [dim], or a
        saved query. The server's encoder must be of the corpus's model."""
        if (query is None) == (saved is None):
            raise ArgumentError("a query is a gradient, or the name of a saved one")
        reply = self._ask(f"examples/{wire.segment(id)}/explain", query, {
            "saved": saved, "task": task, "score": None if score == "cosine" else score}, None, retry=wire.UNSENT)
        return records.Explanation.of(self._wire.take_json(reply))

    def _ask(self, verb: str, queries: Any, params: Dict[str, Any], dtype: Optional[str],
             stream: bool = False, members: Optional[Dict[str, Any]] = None,
             retry: str = wire.SAFE) -> wire.Reply:
        """The POST of query and scores: it changes nothing, so it may be sent again. What has no
        parameter, and a filter that does not fit into the target, goes beside the gradients."""
        path, send = f"{self._path}/{verb}", {k: v for k, v in params.items() if v is not None}
        tensors, body = {}, None
        if members or len(wire.query_string(send)) > TARGET_MAX:
            body, send = {**send, **(members or {})}, {}
        if queries is not None:
            tensors["queries"] = batches.sent(batches.matrix(queries, "queries"), dtype)
            if body is not None:
                tensors["options"] = np.frombuffer(wire.json_bytes(body), np.uint8)
            body = safetensors.encode(tensors)
        return self._wire.send("POST", path, send, body, retry, self._headers(), stream)

    def stream_scores(self, queries: Any, *, task: Optional[str] = None, score: str = "cosine",
                      filter: Optional[str] = None, f64: bool = False,
                      dtype: Optional[str] = None) -> results.ScoreStream:
        """Every example's score for queries [q, dim], as it arrives; see ScoreStream. Close it.
        f64: float64, bit for bit; else float32. dtype: how the queries are sent."""
        return results.ScoreStream(self._ask("scores", queries, {
            "dtype": "f64" if f64 else None, "task": task, "filter": filter,
            "score": None if score == "cosine" else score}, dtype, stream=True))

    def scores(self, queries: Any, *, task: Optional[str] = None, score: str = "cosine",
               filter: Optional[str] = None, f64: bool = False,
               dtype: Optional[str] = None) -> results.Scores:
        """Every example's score in memory: [q, n] in ingest order, float32 or (f64) float64."""
        with self.stream_scores(queries, task=task, score=score, filter=filter, f64=f64,
                                dtype=dtype) as stream:
            return stream.collect()

    def save_scores(self, path: Union[str, os.PathLike], queries: Any, *,
                    task: Optional[str] = None, score: str = "cosine",
                    filter: Optional[str] = None, f64: bool = False,
                    dtype: Optional[str] = None) -> None:
        """Every example's score into a safetensors file, streamed: `scores`, `sequences`, `ids`."""
        with self.stream_scores(queries, task=task, score=score, filter=filter, f64=f64,
                                dtype=dtype) as stream:
            stream.save(path)

    def search(self, text: str, k: int = 10, filter: Optional[str] = None,
               texts: bool = True) -> results.Found:
        """Examples whose texts have any of the words, best BM25 first."""
        body = {"text": text, "k": _whole("k", k), "filter": filter, "texts": texts}
        return results.Found.of(self._wire.json(
            "POST", f"{self._path}/search", None, {k: v for k, v in body.items() if v is not None},
            wire.SAFE))

    # --- fit and tasks --------------------------------------------------------------------------

    def fit(self, damping: Optional[float] = None, sample: Optional[int] = None, wait: bool = True,
            progress: Optional[bool] = None) -> records.Job:
        """Whitens the corpus by the Hessian of its own gradients. damping (0.1) times each block's
        mean eigenvalue is added to its diagonal; sample: the Hessian of that many rows. Queries and
        ingest go on meanwhile. Returns the job, ended unless `wait` is False."""
        job = self._wire.json("POST", f"{self._path}/fit", {"damping": damping, "sample": sample})
        return self.client._follow(job, wait, progress)

    def put_task(self, name: str, gradients: Any, *, lambda_: Optional[float] = None,
                 downweight: Optional[int] = None, dtype: Optional[str] = None, wait: bool = True,
                 progress: Optional[bool] = None) -> records.Job:
        """Makes a task of the raw gradients [m, dim] of an evaluation set, m up to 65,536:
        directions that all of them share are held down. lambda_ from 0 to below 1, or chosen by the rule for
        `downweight` (1000) directions of 65,536. Needs a fitted corpus."""
        body = safetensors.encode(
            {"gradients": batches.sent(batches.matrix(gradients, "gradients"), dtype)})
        job = self._wire.json("PUT", f"{self._path}/tasks/{wire.segment(name)}",
                              {"lambda": lambda_, "downweight": downweight}, body,
                              headers=self._headers())
        return self.client._follow(job, wait, progress)

    def tasks(self) -> List[records.Task]:
        """All tasks of the corpus."""
        return [records.Task.of(t) for t in self._wire.json("GET", f"{self._path}/tasks")["tasks"]]

    def task(self, name: str) -> records.Task:
        """One task: lambda, ranks, spectra. NotFound before its job is done."""
        return records.Task.of(self._wire.json("GET", f"{self._path}/tasks/{wire.segment(name)}"))

    def delete_task(self, name: str) -> None:
        """Deletes a task."""
        self.client._delete(f"{self._path}/tasks/{wire.segment(name)}")

    # --- saved queries --------------------------------------------------------------------------

    def save_query(self, name: str, gradient: Any, *, prompt: Optional[str] = None,
                   target: Optional[str] = None, output: Optional[str] = None,
                   tags: Sequence[str] = (), methods: Optional[Dict[str, Any]] = None
                   ) -> records.SavedQuery:
        """Keeps a raw gradient [dim] under a name, with what the model was asked and said."""
        told = {"prompt": prompt, "target": target, "output": output,
                "tags": list(tags) or None, "methods": methods}
        text = wire.json_bytes({k: v for k, v in told.items() if v is not None})
        x = batches.matrix(gradient, "gradient")
        if len(x) != 1:
            raise ArgumentError(f"gradient: one row, not {len(x)}")
        body = safetensors.encode({"gradient": batches.sent(x, None),
                                   "query": np.frombuffer(text, np.uint8)})
        return records.SavedQuery.of(self._wire.json("PUT", self._saved(name), body=body))

    def _saved(self, name: str) -> str:
        return f"{self._path}/queries/{wire.segment(name)}"

    def saved_queries(self, tag: Optional[str] = None) -> Iterator[records.SavedQuery]:
        """All saved queries by name, or those with a tag."""
        after: Optional[str] = None
        while True:
            a = self._wire.json("GET", f"{self._path}/queries", {"after": after, "tag": tag})
            yield from (records.SavedQuery.of(q) for q in a["queries"])
            after = a["next"]
            if after is None:
                return

    def saved_query(self, name: str) -> records.SavedQuery:
        """One saved query, without its gradient."""
        return records.SavedQuery.of(self._wire.json("GET", self._saved(name)))

    def saved_gradient(self, name: str) -> np.ndarray:
        """A saved query's gradient: float32 [1, dim], as `query` takes it."""
        tensors, _ = safetensors.loads(self._wire.bytes("GET", self._saved(name) + "/gradient"))
        return np.array(tensors["queries"], np.float32)

    def delete_saved_query(self, name: str) -> None:
        """Deletes a saved query."""
        self.client._delete(self._saved(name))
