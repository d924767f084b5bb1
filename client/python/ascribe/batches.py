"""batches.py - from arrays and examples to the bodies of an ingest: checked, cut, named.

A batch is named by its position and a digest of its bytes, so a run that broke is simply run again:
the server recognises what it has. Nothing here is sent anywhere.
"""
from __future__ import annotations

import hashlib
import json
from typing import Any, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from . import safetensors
from .errors import ArgumentError
from .safetensors import Buffer

BATCH_BYTES = 32 << 20  # of gradients, unless rows_per_batch says otherwise
ROWS_MAX = 4096

ExampleLike = Union[str, Mapping[str, Any]]


class Batch(NamedTuple):
    """name, the body's buffers, and which rows of the whole ingest it holds."""
    name: str
    body: List[Buffer]
    first: int
    rows: int


def matrix(x: Any, what: str) -> np.ndarray:
    """A float array [n, dim] of anything array-like ([dim] becomes one row), torch tensors
    included. float16 stays, everything else becomes float32."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x if str(x.dtype) == "torch.float16" else x.float()
        x = x.numpy()
    x = np.asarray(x)
    if x.dtype == object or x.dtype.kind not in "fiu":
        raise ArgumentError(f"{what}: an array of numbers, not of {x.dtype}")
    if x.dtype != np.float16:
        x = x.astype(np.float32, copy=False)
    if x.ndim == 1:
        x = x[None, :]
    if x.ndim != 2 or 0 in x.shape:
        raise ArgumentError(f"{what}: [rows, dim] and not empty, not {list(x.shape)}")
    return x


def sent(x: np.ndarray, dtype: Optional[str]) -> Tuple[str, np.ndarray]:
    """The tensor of a matrix as it is sent; by default float16 as f16, else f32."""
    return safetensors.narrow(x, dtype or ("f16" if x.dtype == np.float16 else "f32"))


def lines(examples: Iterable[ExampleLike], first: int = 0) -> np.ndarray:
    """The `examples` tensor: JSON Lines. An example is an id, or {"id", "text", "meta"}."""
    out = []
    for row, example in enumerate(examples, first):
        if isinstance(example, str):
            example = {"id": example}
        if not isinstance(example, Mapping) or not isinstance(example.get("id"), str):
            raise ArgumentError(f"example {row}: an id or an object with an \"id\", not "
                                f"{str(example)[:100]!r}")
        try:
            kept = {k: v for k, v in example.items() if v is not None}
            text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
            out.append(text.encode() + b"\n")
        except (TypeError, ValueError) as e:
            raise ArgumentError(f"example {row} ({example['id'][:100]!r}): {e}") from None
    return np.frombuffer(b"".join(out), np.uint8)


def body(gradients: Any, examples: Iterable[ExampleLike], dtype: Optional[str] = None,
         first: int = 0) -> List[Buffer]:
    """The body of one batch: gradients [n, dim], n examples."""
    x, examples = matrix(gradients, "gradients"), list(examples)
    if len(examples) != len(x):
        raise ArgumentError(f"{len(x)} rows of gradients and {len(examples)} examples")
    return safetensors.encode({"gradients": sent(x, dtype), "examples": lines(examples, first)})


def digest(parts: Iterable[Buffer]) -> str:
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(part)
    return h.hexdigest()


def cut(pairs: Iterable[Tuple[Any, Iterable[ExampleLike]]], dtype: Optional[str],
        rows_per_batch: Optional[int]) -> Iterator[Batch]:
    """Batches of a stream of (gradients [n, dim], n examples): joined while small, split where
    large. Holds about one batch."""
    if rows_per_batch is not None and not 1 <= rows_per_batch <= 65536:
        raise ArgumentError(f"rows_per_batch {rows_per_batch}: 1 to 65,536")
    waiting: List[np.ndarray] = []
    names: List[ExampleLike] = []
    count = number = first = 0
    size, dim = rows_per_batch, None
    for x, examples in pairs:
        x, examples = matrix(x, "gradients"), list(examples)
        if len(x) != len(examples):
            raise ArgumentError(f"after row {first + count}: {len(x)} rows of gradients and "
                                f"{len(examples)} examples")
        if dim is not None and x.shape[1] != dim:
            raise ArgumentError(f"row {first + count} has {x.shape[1]} numbers, those before {dim}")
        dim = x.shape[1]
        size = size or max(1, min(ROWS_MAX, BATCH_BYTES // (dim * x.itemsize)))
        at = 0
        while at < len(x):
            take = min(size - count, len(x) - at)
            waiting.append(x[at:at + take])
            names += examples[at:at + take]
            at, count = at + take, count + take
            if count == size:
                yield _batch(number, first, waiting, names, dtype)
                number, first, count, waiting, names = number + 1, first + count, 0, [], []
    if count:
        yield _batch(number, first, waiting, names, dtype)


def _batch(number: int, first: int, waiting: List[np.ndarray], names: List[ExampleLike],
           dtype: Optional[str]) -> Batch:
    x = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
    parts = body(x, names, dtype, first)
    return Batch(f"b{number:06d}-{digest(parts)}", parts, first, len(x))
