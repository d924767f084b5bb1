"""encoder.py - a model as the encoder of a server: requests on stdin, answers on stdout.

    ascribed --store DIR --encoder 'python3 -m ascribe.encoder my_model:encoder'

`my_model:encoder` is a function without arguments in a module that Python finds (the folder where
ascribed was started is searched first). It loads the model and gives an object like `Encoder`;
`ascribe.torch.CausalEncoder` is one for any causal language model in PyTorch. The protocol is that
of docs/encoder.md. Numpy only.

While it serves, what is printed goes to standard error, and so into the server's log: a library that
prints cannot spoil an answer.
"""
from __future__ import annotations

import base64
import binascii
import importlib
import json
import os
import sys
import traceback
from typing import Any, BinaryIO, Callable, Dict, List, Optional, Protocol, Tuple

import numpy as np

from . import safetensors
from .errors import ArgumentError

Json = Dict[str, Any]
Answer = Tuple[Json, List[Any]]  # members of the head; buffers of the body


class Encoder(Protocol):
    """What is served. `model` is what the corpus's manifest says as its model; `dim` numbers make a
    gradient. Any method may raise: the request is answered with the message, the next one is read.
    Only `encode` is needed; the other verbs are offered where there is a method."""
    name: str
    model: str
    dim: int

    def encode(self, prompt: str, target: str) -> Tuple[np.ndarray, float, int]:
        """(gradient float32 [dim], loss, tokens) of the target after the prompt: raw, as ingested;
        the loss summed over the target's tokens, and their number."""
        ...

    def continue_prompt(self, prompt: str, tokens: int) -> str:
        """What the model says after the prompt, at most so many tokens."""
        ...

    def explain(self, text: str, vector: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(shares [T], spans [T, 2]): of each token of an example's text its first character and
        the one after its last, ascending, and the product of its part of the example's gradient
        with `vector` float32 [dim]. Shares sum to <vector, gradient>."""
        ...


def _text(request: Json, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise ArgumentError(f"{name}: missing, or no text")
    return value


def byte_spans(text: str, spans: Any) -> np.ndarray:
    """Places in characters as places in the bytes of UTF-8, int64 [T, 2]."""
    widths = np.array([len(c.encode("utf-8")) for c in text], "<i8")
    starts = np.concatenate(([0], np.cumsum(widths))).astype("<i8")
    return starts[np.asarray(spans, np.int64).reshape(-1, 2)]


class Server:
    """The verbs over one encoder."""

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.verbs: Dict[str, Callable[[Json], Answer]] = {"encode": self._encode}
        if hasattr(encoder, "continue_prompt"):
            self.verbs["continue"] = self._continue
        if hasattr(encoder, "explain"):
            self.verbs["explain"] = self._explain

    def _hello(self) -> Answer:
        return {"name": self.encoder.name, "model": self.encoder.model, "dim": self.encoder.dim,
                "fingerprint": getattr(self.encoder, "fingerprint", None),
                "verbs": list(self.verbs)}, []

    def _encode(self, request: Json) -> Answer:
        gradient, loss, tokens = self.encoder.encode(_text(request, "prompt"),
                                                     _text(request, "target"))
        g = np.ascontiguousarray(gradient, "<f4").reshape(-1)
        return {"loss": float(loss), "tokens": int(tokens)}, safetensors.encode({"gradient": g})

    def _continue(self, request: Json) -> Answer:
        return {"output": self.encoder.continue_prompt(_text(request, "prompt"),
                                                       int(request.get("tokens", 8)))}, []

    def _explain(self, request: Json) -> Answer:
        text = _text(request, "text")
        try:
            vector = np.frombuffer(base64.b64decode(_text(request, "vector"), validate=True), "<f4")
        except (binascii.Error, ValueError):
            raise ArgumentError("vector: not the base64 of float32") from None
        if len(vector) != self.encoder.dim:
            raise ArgumentError(f"vector: {len(vector)} numbers, not {self.encoder.dim}")
        shares, spans = self.encoder.explain(text, vector)
        return {}, safetensors.encode({"shares": np.ascontiguousarray(shares, "<f4"),
                                       "spans": byte_spans(text, spans)})

    def answer(self, request: Json) -> Answer:
        """Head and body for a request; raises what the encoder raises."""
        verb = request.get("verb")
        if verb == "hello":
            return self._hello()
        if verb not in self.verbs:
            raise ArgumentError(f"no verb {verb!r}")
        return self.verbs[verb](request)


def _one_line(error: BaseException) -> str:
    text = error.detail if isinstance(error, ArgumentError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


def serve(encoder: Encoder, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers until the requests end."""
    server = Server(encoder)
    for line in requests:
        request: Json = {}
        body: List[Any] = []
        try:
            request = json.loads(line)
            head, body = server.answer(request)
            head = {"ok": True, **head}
        except Exception as e:  # whatever it is, the next request may be served
            if not isinstance(e, ArgumentError):
                traceback.print_exc()
            head, body = {"ok": False, "error": _one_line(e)}, []
        parts = [bytes(memoryview(part).cast("B")) for part in body]
        head = {"id": request.get("id") if isinstance(request, dict) else None, **head,
                "bytes": sum(map(len, parts))}
        answers.write(json.dumps(head).encode() + b"\n" + b"".join(parts))
        answers.flush()


def load(name: str) -> Encoder:
    """What the function MODULE:FUNCTION gives."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise ArgumentError(f"{name!r}: must be MODULE:FUNCTION")
    return getattr(importlib.import_module(module), function)()


def main(arguments: Optional[List[str]] = None) -> int:
    """python3 -m ascribe.encoder MODULE:FUNCTION"""
    args = sys.argv[1:] if arguments is None else arguments
    if len(args) != 1:
        print("usage: python3 -m ascribe.encoder MODULE:FUNCTION", file=sys.stderr)
        return 2
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # for libraries below Python, too
    sys.stdout = sys.stderr
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        encoder = load(args[0])
    except ArgumentError as e:
        print(f"ascribe.encoder: {e.detail}", file=sys.stderr)
        return 2
    try:
        serve(encoder, sys.stdin.buffer, answers)
    except BrokenPipeError:  # the server is gone
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
