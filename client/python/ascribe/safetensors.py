"""safetensors.py - reading and writing safetensors files, with numpy alone.

8 bytes little-endian header length, a JSON header, data; tensors in order, without gap or overlap
(docs/protocol.md, "Tensors"). numpy has no bfloat16: BF16 is read as float32, and written on demand
from float32, rounded to nearest even.
"""
from __future__ import annotations

import json
import os
import struct
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from .errors import ArgumentError, FormatError

HEADER_MAX = 1 << 20
NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
         "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?"}
_WORD = {np.dtype(v): k for k, v in NUMPY.items() if k != "BF16"}
_SENT = {"f32": "F32", "f16": "F16", "bf16": "BF16", "f64": "F64"}

Buffer = Union[bytes, bytearray, memoryview]


def to_bf16(x: np.ndarray) -> np.ndarray:
    """float32 values as bfloat16 bits (uint16), rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, "<f4").view("<u4").astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(nan, ((bits >> 16) | 0x40).astype("<u2"), rounded)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits (uint16) as float32: exact."""
    return (np.asarray(bits, "<u2").astype("<u4") << 16).view("<f4")


def narrow(x: np.ndarray, dtype: str) -> Tuple[str, np.ndarray]:
    """(header word, contiguous array) of float values to be sent as "f32", "f16" or "bf16"."""
    if dtype not in _SENT:
        raise ArgumentError(f"dtype {dtype!r}: one of {', '.join(_SENT)}")
    if dtype == "bf16":
        return "BF16", to_bf16(x)
    with np.errstate(over="ignore"):  # an infinity is refused by the server, with its row
        return _SENT[dtype], np.ascontiguousarray(x, NUMPY[_SENT[dtype]])


def encode(tensors: Mapping[str, Any], metadata: Optional[Mapping[str, str]] = None) -> List[Buffer]:
    """A safetensors file as a list of buffers, the arrays not copied where they are contiguous.

    tensors: name -> array, or (word, array) as `narrow` gives, laid out in this order.
    """
    header: Dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts: List[Buffer] = []
    at = 0
    for name, value in tensors.items():
        word, array = value if isinstance(value, tuple) else (None, np.asarray(value))
        if word is None:
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            word = _WORD.get(array.dtype)
            if word is None:
                raise ArgumentError(f"tensor {name}: {array.dtype} is not a safetensors type")
        shape, array = array.shape, np.ascontiguousarray(array)
        header[name] = {"dtype": word, "shape": list(shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
        if array.nbytes:
            parts.append(array.reshape(-1).data.cast("B"))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data on 8 bytes, as the format's own writer does
    return [struct.pack("<Q", len(text)) + text] + parts


def save(path: Union[str, os.PathLike], tensors: Mapping[str, Any],
         metadata: Optional[Mapping[str, str]] = None) -> None:
    """Writes a file: beside it first, then renamed, so that it appears whole or not at all."""
    beside = f"{os.fspath(path)}.{os.getpid()}.part"
    try:
        with open(beside, "wb") as f:
            for part in encode(tensors, metadata):
                f.write(part)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


class Entry:
    """One tensor of a header: `word` (F32, ...), `shape`, and where its bytes are in the data."""

    __slots__ = ("word", "shape", "begin", "end")

    def __init__(self, name: str, entry: Any):
        try:
            self.word, self.shape = entry["dtype"], tuple(entry["shape"])
            self.begin, self.end = entry["data_offsets"]
            count = 1
            for n in self.shape:
                if not isinstance(n, int) or n < 0:
                    raise ValueError
                count *= n
            size = np.dtype(NUMPY[self.word]).itemsize
        except (KeyError, TypeError, ValueError):
            raise FormatError(f"tensor {name}: {str(entry)[:200]}") from None
        if self.end - self.begin != count * size:
            raise FormatError(f"tensor {name}: {self.word} {list(self.shape)} needs {count * size} "
                              f"bytes, its offsets give {self.end - self.begin}")


def parse_header(text: bytes) -> Tuple[Dict[str, Entry], Dict[str, str]]:
    """(entries in the order of their data, metadata) of a header; offsets checked."""
    try:
        header = json.loads(text)
    except ValueError as e:
        raise FormatError(f"the header is not JSON: {e}") from None
    if not isinstance(header, dict):
        raise FormatError("the header is not an object")
    metadata = header.pop("__metadata__", None) or {}
    entries = {name: Entry(name, entry) for name, entry in header.items()}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    at = 0
    for name, entry in entries.items():
        if entry.begin != at:
            raise FormatError(f"tensor {name} begins at {entry.begin}, not {at}")
        at = entry.end
    return entries, metadata


def header_length(first8: bytes) -> int:
    """The header's length, of the first 8 bytes; bounded."""
    if len(first8) < 8:
        raise FormatError(f"{len(first8)} bytes are no safetensors file")
    (length,) = struct.unpack("<Q", first8)
    if length > HEADER_MAX:
        raise FormatError(f"a header of {length} bytes; {HEADER_MAX} are allowed")
    return length


def loads(data: Buffer) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """(tensors, metadata) of a whole file in memory. The arrays look into `data`; BF16 is widened."""
    view = memoryview(data).cast("B")
    length = header_length(bytes(view[:8]))
    if 8 + length > len(view):
        raise FormatError(f"the file ends within its header ({len(view)} bytes, not {8 + length})")
    entries, metadata = parse_header(bytes(view[8:8 + length]))
    body = view[8 + length:]
    end = max((e.end for e in entries.values()), default=0)
    if end != len(body):
        raise FormatError(f"{len(body)} bytes of data; the header describes {end}")
    return {name: _array(e, body[e.begin:e.end]) for name, e in entries.items()}, metadata


def load(path: Union[str, os.PathLike]) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """(tensors, metadata) of a file, mapped: nothing is read before it is looked at."""
    if os.path.getsize(path) == 0:
        raise FormatError(f"{os.fspath(path)}: the file is empty")
    return loads(np.memmap(path, np.uint8, "r").data)


def _array(entry: Entry, data: Buffer) -> np.ndarray:
    array = np.frombuffer(data, NUMPY[entry.word]).reshape(entry.shape)
    return from_bf16(array) if entry.word == "BF16" else array
