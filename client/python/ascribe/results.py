"""results.py - answers to questions: hits, scores, groups. They show themselves as tables.

Numbers are as the server sent them: a score is float64 and reads back bit for bit.
"""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from . import safetensors
from .errors import ProtocolError
from .records import Damage
from .table import Table
from .wire import Reply

Json = Dict[str, Any]
READ = 1 << 20  # bytes of a stream at a time


@dataclass(frozen=True)
class Hit:
    """An example in an answer: rank from 1, score; `shares` [(block, what it adds to the score)] and
    `percentile` (fraction of all scores that are lower) where they were asked for. `damaged` is
    "texts" where the stored text and meta cannot be read, and so are None; else None."""
    id: str
    score: float
    rank: int
    sequence: int
    text: Optional[str] = None
    meta: Optional[Json] = None
    shares: Optional[List[Tuple[str, float]]] = None
    percentile: Optional[float] = None
    damaged: Optional[str] = None

    @classmethod
    def of(cls, a: Json) -> Hit:
        blocks = a.get("blocks")
        shares = None if blocks is None else [(b["name"], b["share"]) for b in blocks]
        return cls(a["id"], a["score"], a["rank"], a["sequence"], a.get("text"), a.get("meta"),
                   shares, a.get("percentile"), a.get("damaged"))


@dataclass(frozen=True)
class Group:
    """The scores of one query by a field of meta: how many examples have `value`, and their sum."""
    value: Any
    count: int
    sum: float
    mean: float


@dataclass(frozen=True)
class Histogram:
    """All scores of one query: `counts` int64 [B] in bins between `edges` float64 [B + 1], equally
    wide from the lowest score to the highest."""
    edges: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, a: Json) -> Histogram:
        return cls(np.linspace(a["from"], a["to"], len(a["counts"]) + 1),
                   np.array(a["counts"], np.int64))


@dataclass(frozen=True)
class Place:
    """Where a named example stands among all that took part: its rank from 1 as in a whole list of
    proponents, and the fraction of scores that are lower. None where it took no part."""
    id: str
    score: Optional[float] = None
    rank: Optional[int] = None
    percentile: Optional[float] = None

    @classmethod
    def of(cls, a: Json) -> Place:
        return cls(a["id"], a.get("score"), a.get("rank"), a.get("percentile"))


@dataclass(frozen=True)
class Norms:
    """How long `examples` examples are: `counts` int64 [B] in bins between `edges` float64 [B + 1],
    of equal ratio from the shortest to the longest. min, max and median are None of none."""
    examples: int
    min: Optional[float]
    max: Optional[float]
    median: Optional[float]
    edges: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, a: Json) -> Norms:
        bins = a["bins"]
        edges = [b["from"] for b in bins] + [b["to"] for b in bins[-1:]]
        return cls(a["examples"], a["min"], a["max"], a["median"], np.array(edges, np.float64),
                   np.array([b["count"] for b in bins], np.int64))


def _hits_table(title: str, hits: Sequence[Hit]) -> Table:
    percent = any(h.percentile is not None for h in hits)
    heads = ["rank", "score"] + (["percentile"] if percent else []) + ["id", "text"]
    rows = []
    for h in hits:
        place = "" if h.percentile is None else f"{100 * h.percentile:.2f}"
        rows.append([str(h.rank), f"{h.score:.6g}"] + [place] * percent + [h.id, h.text or ""])
    return Table(title, heads, rows)


@dataclass(frozen=True)
class QueryResult:
    """Of one query: `proponents` best first, `opponents` most negative first; where they were asked
    for `groups` (highest sum first), the `histogram` of all scores (None when no example took part)
    and the `places` of examples named by `ids`, in that order."""
    proponents: List[Hit]
    opponents: List[Hit]
    groups: Optional[List[Group]] = None
    groups_other: Optional[Json] = None
    histogram: Optional[Histogram] = None
    places: Optional[List[Place]] = None

    @classmethod
    def of(cls, a: Json) -> QueryResult:
        groups, histogram, places = a.get("groups"), a.get("histogram"), a.get("ids")
        return cls([Hit.of(h) for h in a["proponents"]], [Hit.of(h) for h in a["opponents"]],
                   None if groups is None else
                   [Group(g["value"], g["count"], g["sum"], g["mean"]) for g in groups],
                   a.get("groups_other"),
                   None if histogram is None else Histogram.of(histogram),
                   None if places is None else [Place.of(p) for p in places])

    @property
    def ids(self) -> List[str]:
        """Ids of the proponents, best first."""
        return [h.id for h in self.proponents]

    @property
    def scores(self) -> np.ndarray:
        """Scores of the proponents: float64 [k]."""
        return np.array([h.score for h in self.proponents], np.float64)

    def tables(self) -> List[Table]:
        """What is shown: proponents, opponents and groups, those that there are."""
        out = [_hits_table("proponents", self.proponents)] if self.proponents else []
        if self.opponents:
            out.append(_hits_table("opponents", self.opponents))
        if self.groups is not None:
            out.append(Table("groups", ["count", "sum", "mean", "value"],
                             [[str(g.count), f"{g.sum:.6g}", f"{g.mean:.6g}",
                               "(none)" if g.value is None else str(g.value)] for g in self.groups]))
        return out or [Table("no example", [""], [])]

    def __str__(self) -> str:
        return "\n\n".join(t.text() for t in self.tables())

    def _repr_html_(self) -> str:
        return "".join(t.html() for t in self.tables())


@dataclass(frozen=True)
class Answer(Sequence[QueryResult]):
    """Of a query request: a sequence of one QueryResult a query row.

    exact       "certified", or "probabilistic" with the chance `delta` that it is not
    engine      which one found it, and `engine_reason` why that one
    examples    how many took part
    generation  the corpus's, which grows with every change
    read        rows read in each tier; took_ms the server's time
    damaged     what is missing from the answer (a Damage); None: it is whole
    """
    results: List[QueryResult]
    exact: str
    delta: Optional[float]
    engine: str
    engine_reason: Optional[str]
    examples: int
    generation: int
    read: Json
    took_ms: float
    raw: Json = field(repr=False)
    damaged: Optional[Damage] = None

    @classmethod
    def of(cls, a: Json) -> Answer:
        return cls([QueryResult.of(r) for r in a["results"]], a["exact"], a.get("delta"),
                   a["engine"], a.get("engine_reason"), a["examples"], a["generation"], a.get("read") or {},
                   a["took_ms"], a, Damage.of(a))

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, i: Any) -> Any:
        return self.results[i]

    def _head(self) -> str:
        certain = self.exact if self.delta is None else f"{self.exact}, delta {self.delta:g}"
        lost = f"; {self.damaged}" if self.damaged else ""
        return (f"{self.examples} examples, {certain}, engine {self.engine}, {self.took_ms:.1f} ms"
                f"{lost}")

    def __str__(self) -> str:
        parts = [self._head()]
        for i, result in enumerate(self.results):
            parts.append((f"query {i}\n" if len(self.results) > 1 else "") + str(result))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        parts = [Table(self._head(), [], []).html()]
        for i, result in enumerate(self.results):
            parts.append((f"<h4>query {i}</h4>" if len(self.results) > 1 else "") +
                         result._repr_html_())
        return "".join(parts)


@dataclass(frozen=True)
class Found(Sequence[Hit]):
    """Of a search by words: hits, best BM25 first. `matches` examples have any of the words;
    `missing` texts were not yet in the index; `damaged` says what is left out (None: nothing)."""
    hits: List[Hit]
    matches: int
    examples: int
    generation: int
    indexed_through: int
    missing: int
    took_ms: float
    damaged: Optional[Damage] = None

    @classmethod
    def of(cls, a: Json) -> Found:
        return cls([Hit.of(h) for h in a["results"]], a["matches"], a["examples"], a["generation"],
                   a["indexed_through"], a["missing"], a["took_ms"], Damage.of(a))

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, i: Any) -> Any:
        return self.hits[i]

    def _table(self) -> Table:
        lost = f"; {self.damaged}" if self.damaged else ""
        return _hits_table(f"{self.matches} matches of {self.examples} examples{lost}", self.hits)

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


@dataclass(frozen=True)
class Scores:
    """Every score. `scores` [q, n] float32 or float64, `sequences` int64 [n], `ids` n strings, in
    ingest order."""
    scores: np.ndarray
    sequences: np.ndarray
    ids: List[str]
    metadata: Dict[str, str]

    def top(self, k: int = 10, row: int = 0) -> List[Tuple[str, float]]:
        """The k best (id, score) of one query: ties by ingest sequence."""
        order = np.lexsort((self.sequences, -self.scores[row]))[:k]
        return [(self.ids[i], float(self.scores[row, i])) for i in order]

    def _table(self) -> Table:
        q, n = self.scores.shape
        return Table(f"scores of {n} examples for {q} queries; the best of the first",
                     ["score", "id"], [[f"{s:.6g}", name] for name, s in self.top() if q])

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


class ScoreStream:
    """Every score, as it arrives, in bounded memory. A context manager.

        with corpus.stream_scores(queries) as stream:
            for row, first, part in stream:    # scores of query `row`, examples first, first+1, ...
                use(row, first, part)
            sequences, ids = stream.rest()

    shape [q, n]; metadata has corpus, generation and fingerprint. A stream that breaks off raises
    NetworkError: what came before is right, and not all.
    """

    def __init__(self, reply: Reply):
        self._reply = reply
        try:
            self._begin()
        except BaseException:
            reply.close()
            raise

    def _begin(self) -> None:
        length = safetensors.header_length(self._take(8))
        self.header = self._take(length)
        entries, self.metadata = safetensors.parse_header(self.header)
        if sorted(entries) != ["ids", "scores", "sequences"]:
            raise ProtocolError(f"scores came as {list(entries)}")
        self._entries, self._at = entries, 0
        self._small: Dict[str, bytes] = {}
        for name, entry in entries.items():  # what comes before the scores is small: n numbers
            if name == "scores":
                break
            self._small[name] = self._tensor(entry)
        self.shape: Tuple[int, int] = entries["scores"].shape
        self.dtype = np.dtype(safetensors.NUMPY[entries["scores"].word])

    def _take(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = self._reply.read(min(left, READ))
            if not part:
                raise ProtocolError(f"the stream ends {left} bytes early")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _tensor(self, entry: safetensors.Entry) -> bytes:
        self._at = entry.end
        return self._take(entry.end - entry.begin)

    def __iter__(self) -> Iterator[Tuple[int, int, np.ndarray]]:
        """(row, first, scores): at most 1 MiB at a time, row by row, examples in ingest order."""
        step = READ // self.dtype.itemsize
        for row in range(self.shape[0]):
            for first in range(0, self.shape[1], step):
                count = min(step, self.shape[1] - first)
                part = np.frombuffer(self._take(count * self.dtype.itemsize), self.dtype)
                self._at += part.nbytes
                yield row, first, part

    def rest(self) -> Tuple[np.ndarray, List[str]]:
        """(sequences int64 [n], ids), once all scores were taken."""
        if self._at < self._entries["scores"].end:
            raise RuntimeError("sequences and ids come with the scores: take those first")
        for name, entry in self._entries.items():
            if name not in self._small and name != "scores":
                self._small[name] = self._tensor(entry)
        self._reply.read()  # the end: the connection can be used again
        ids = self._small["ids"].decode().split("\n")
        return np.frombuffer(self._small["sequences"], "<i8"), ids[:-1]

    def collect(self) -> Scores:
        """All of it, in memory."""
        out = np.empty(self.shape, self.dtype)
        for row, first, part in self:
            out[row, first:first + len(part)] = part
        sequences, ids = self.rest()
        return Scores(out, sequences, ids, dict(self.metadata))

    def save(self, path: Union[str, os.PathLike]) -> None:
        """The stream as a safetensors file, written as it arrives; appears whole or not at all."""
        beside = f"{os.fspath(path)}.{os.getpid()}.part"
        begin, end = self._at, max(entry.end for entry in self._entries.values())
        try:
            with open(beside, "wb") as f:
                f.write(len(self.header).to_bytes(8, "little") + self.header)
                f.writelines(self._small.values())
                for at in range(begin, end, READ):
                    f.write(self._take(min(READ, end - at)))
                self._at = end
                f.flush()
                os.fsync(f.fileno())
            os.replace(beside, path)
        except BaseException:
            if os.path.exists(beside):
                os.unlink(beside)
            raise

    def close(self) -> None:
        self._reply.close()

    def __enter__(self) -> ScoreStream:
        return self

    def __exit__(self, *unused: Any) -> None:
        self.close()
