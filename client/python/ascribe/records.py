"""records.py - what the server tells of corpora, examples, jobs, tasks and keys, as plain records.

Each is made by `of(answer)` from the JSON of docs/protocol.md. Members that a newer server adds are
kept in `raw` and otherwise ignored.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from .table import Table

Json = Dict[str, Any]


@dataclass(frozen=True)
class CorpusInfo:
    """A corpus. `examples` live ones, `coded` those that engine tiered can read codes of, `bytes` on
    disk and `planes` what they are made of; `ingest` the pace of the last minute. The last four are
    None in a list."""
    name: str
    fingerprint: str
    whitened: bool
    examples: int
    deleted: int
    coded: int
    batches: int
    chunks: int
    shards: int
    bytes: int
    next_sequence: int
    generation: int
    manifest: Optional[Json] = None
    fit: Optional[Json] = None
    planes: Optional[Dict[str, int]] = None
    ingest: Optional[Dict[str, float]] = None
    raw: Json = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, a: Json) -> CorpusInfo:
        return cls(a["name"], a["fingerprint"], a["whitened"], a["examples"], a["deleted"],
                   a.get("coded", 0), a["batches"], a["chunks"], a["shards"], a["bytes"],
                   a["next_sequence"], a["generation"], a.get("manifest"), a.get("fit"),
                   a.get("planes"), a.get("ingest"), a)

    @property
    def dim(self) -> Optional[int]:
        """Numbers in one gradient; None in a list."""
        return self.manifest["dim"] if self.manifest else None

    def _repr_html_(self) -> str:
        rows = [[k, str(v)] for k, v in self.raw.items() if k not in ("manifest", "fit")]
        return Table(f"corpus {self.name}", ["", ""], rows).html()


@dataclass(frozen=True)
class Encoder:
    """The program behind the server that turns text into gradients. `state`: "none", "starting",
    "ready", "failed" (`error` says why); `model` as manifests have it; `dim` numbers a gradient."""
    state: str
    name: Optional[str]
    model: Optional[str]
    dim: Optional[int]
    verbs: List[str]
    restarts: int
    error: Optional[str]
    raw: Json = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, a: Json) -> Encoder:
        return cls(a["state"], a["name"], a["model"], a["dim"], list(a["verbs"]), a["restarts"],
                   a["error"], a)


@dataclass(frozen=True)
class EncodedQuery:
    """A prompt and its target as a query: `gradient` float32 [dim], `loss` in nats over the
    target's tokens."""
    prompt: str
    target: str
    gradient: np.ndarray = field(repr=False)
    loss: float


@dataclass(frozen=True)
class TokenShare:
    """A token of an example's text, bytes `start` to `end` of it, and what it adds to the score."""
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Explanation:
    """What the tokens of example `id` add to its `score` on a query. `sum` is that of the tokens,
    and equals score where the encoder's model is the one that the corpus is of."""
    id: str
    score: float
    sum: float
    tokens: List[TokenShare]

    @classmethod
    def of(cls, a: Json) -> Explanation:
        return cls(a["id"], a["score"], a["sum"],
                   [TokenShare(t["text"], t["from"], t["to"], t["score"]) for t in a["tokens"]])

    def _table(self) -> Table:
        rows = [[f"{t.score:+.6f}", t.text] for t in self.tokens]
        return Table(f"example {self.id}: score {self.score:.6f}", ["score", "token"], rows)

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


@dataclass(frozen=True)
class Receipt:
    """What became of a batch: `examples` stored by it, `duplicates` skipped because their id was
    there, `sequence` the corpus's next sequence number then. `created` is False when it stood
    already."""
    batch: str
    examples: int
    duplicates: int
    sequence: int
    created: bool = False
    content_hash: Optional[str] = None

    @classmethod
    def of(cls, a: Json, created: bool = False) -> Receipt:
        return cls(a["batch"], a["examples"], a["duplicates"], a["sequence"], created,
                   a.get("content_hash"))


@dataclass(frozen=True)
class Ingested:
    """A whole ingest: rows stored now, rows whose id was there, batches sent, batches that stood
    already (of a run that broke, say), seconds."""
    examples: int
    duplicates: int
    batches: int
    already: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows stored a second."""
        return self.examples / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Example:
    """A training example. `norm` is the length of its vector before normalising, `self_influence`
    the square of that."""
    id: str
    sequence: int
    norm: float
    self_influence: float
    text: Optional[str] = None
    meta: Optional[Json] = None

    @classmethod
    def of(cls, a: Json) -> Example:
        return cls(a["id"], a["sequence"], a["norm"], a["self_influence"], a.get("text"),
                   a.get("meta"))


@dataclass(frozen=True)
class Damage:
    """What an answer had to leave out because its stored bytes are damaged; what is there is right.
    `examples` live ones, `ids` of the first 1,000, in `chunks` groups of rows."""
    examples: int
    chunks: int
    ids: List[str]

    @classmethod
    def of(cls, a: Json) -> Optional[Damage]:
        """Of a whole answer; None where it says that nothing is missing."""
        if not a.get("partial"):
            return None
        d = a["damaged"]
        return cls(d["examples"], d["chunks"], list(d["ids"]))

    def __str__(self) -> str:
        return f"partial: {self.examples} examples are damaged and left out"


@dataclass(frozen=True)
class Page:
    """Some examples in ingest order, and the cursor of the next page (None at the end). `damaged`
    says what is missing before, in and after it; None: nothing."""
    examples: List[Example]
    next: Optional[str]
    damaged: Optional[Damage] = None


@dataclass(frozen=True)
class Encoding:
    """A stored unit vector: `vector` float32 [dim], the `norm` it was divided by."""
    id: str
    vector: np.ndarray = field(repr=False)
    norm: float
    sequence: int
    fingerprint: str

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Encoding:
        return cls(metadata["id"], np.array(tensors["encoding"], np.float32), float(metadata["norm"]),
                   int(metadata["sequence"]), metadata["fingerprint"])


@dataclass(frozen=True)
class Job:
    """Long work. `state`: queued, running, succeeded, failed, cancelled; `progress` from 0 to 1;
    `rate` bytes a second; `eta_s` seconds. A job that ended has `result` or `error`."""
    id: str
    kind: str
    state: str
    progress: float
    rate: Optional[float]
    eta_s: Optional[float]
    created: str
    result: Optional[Json] = None
    error: Optional[Json] = None

    @classmethod
    def of(cls, a: Json) -> Job:
        a = a.get("job", a)
        return cls(a["id"], a["kind"], a["state"], a["progress"], a.get("rate"), a.get("eta_s"),
                   a["created"], a.get("result"), a.get("error"))

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Task:
    """A task of an evaluation set: `lambda_` mixes its Hessian with the corpus's, `rank` is how many
    directions it changes. `state`: ready, or stale once the corpus was fitted again."""
    name: str
    state: str
    lambda_: float
    rows: int
    rank: int
    blocks: List[Json] = field(repr=False, default_factory=list)
    spectra: Optional[Json] = field(repr=False, default=None)
    raw: Json = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, a: Json) -> Task:
        return cls(a["name"], a["state"], a["lambda"], a["rows"], a["rank"], a.get("blocks", []),
                   a.get("spectra"), a)


@dataclass(frozen=True)
class SavedQuery:
    """What a model was asked and what it said; its gradient is kept by the server."""
    name: str
    dim: int
    created: str
    prompt: Optional[str] = None
    target: Optional[str] = None
    output: Optional[str] = None
    tags: List[str] = field(default_factory=list)
    methods: Optional[Json] = None

    @classmethod
    def of(cls, a: Json) -> SavedQuery:
        return cls(a["name"], a["dim"], a["created"], a.get("prompt"), a.get("target"),
                   a.get("output"), list(a.get("tags") or []), a.get("methods"))


@dataclass(frozen=True)
class Key:
    """A key. `secret` (what to send) is there only in the answer that makes it."""
    id: str
    scope: str
    label: Optional[str]
    created: str
    secret: Optional[str] = field(default=None, repr=False)
    corpus: Optional[str] = None  # the only one it is for
    expires: Optional[str] = None
    last_used: Optional[str] = None  # written down by the server every ten minutes
    rate: Optional[int] = None  # requests a second; None: the server's own limit

    @classmethod
    def of(cls, a: Json) -> Key:
        return cls(a["id"], a["scope"], a.get("label"), a["created"], a.get("key"), a.get("corpus"),
                   a.get("expires"), a.get("last_used"), a.get("rate"))
