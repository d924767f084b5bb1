"""causal.py - any causal language model in PyTorch as the encoder of a server (docs/encoder.md)."""
from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from ..errors import ArgumentError
from .collector import GradientCollector

# A text as (ids [T], spans [T, 2] in characters)
Tokenize = Callable[[str], Tuple[Sequence[int], Sequence[Tuple[int, int]]]]


class CausalEncoder:
    """Prompts into gradients, continuations, and token shares, with one model and its collector.

        def encoder():
            model, tokenizer = ...
            collector = GradientCollector(model, "transformer.h.*", p=64, seed=1)
            def tokenize(text):
                t = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
                return t["input_ids"], t["offset_mapping"]
            return CausalEncoder(model, collector, tokenize, tokenizer.decode,
                                 before=[tokenizer.bos_token_id])

    model      in eval() mode; model(ids [1, t]) gives logits [1, t, V], or an object with `.logits`
    collector  of that model: the same modules, p, seed and second moment as when it was ingested
    tokenize   text -> (ids, spans in characters)
    decode     ids -> text
    before     ids put before every text; at least one, or the first token has no loss
    end        the id that ends a text: continuations stop before it
    context    most tokens the model can see; a continuation sees the last of them
    name       for people; `model_name`: what the manifest says as model (the collector's fingerprint)

    The loss is the sum over a text's tokens, as `text_loss` computes it: ingest with that, and what
    is explained is what was ingested.
    """

    def __init__(self, model: nn.Module, collector: GradientCollector, tokenize: Tokenize,
                 decode: Callable[[List[int]], str], *, before: Sequence[int] = (),
                 end: Optional[int] = None, context: Optional[int] = None,
                 name: str = "ascribe.torch", model_name: Optional[str] = None):
        self.network, self.collector = model, collector
        self.tokenize, self.decode = tokenize, decode
        self.before, self.end, self.context = list(before), end, context
        self.name, self.model = name, model_name or collector.fingerprint()
        self.dim = collector.dim
        self.device = next(model.parameters()).device

    def _logits(self, ids: torch.Tensor) -> torch.Tensor:
        out = self.network(ids)
        return out if torch.is_tensor(out) else out.logits

    def _check(self, ids: Sequence[int]) -> None:
        if len(ids) < 2:
            raise ArgumentError("the text is too short: nothing of it is predicted")
        if self.context is not None and len(ids) - 1 > self.context:
            raise ArgumentError(f"{len(ids)} tokens, at most {self.context + 1}")

    def _loss(self, network: nn.Module, batch: Tuple[List[int], int]) -> torch.Tensor:
        """[1]: the loss over ids from number `first` on, summed."""
        ids, first = batch
        row = torch.tensor([ids], device=self.device)
        logits = self._logits(row[:, :-1]).float()
        each = nn.functional.cross_entropy(logits[0], row[0, 1:], reduction="none")
        return each[max(first - 1, 0):].sum().reshape(1)

    def text_loss(self, text: str) -> Tuple[List[int], int]:
        """A text as a batch of one for `self.losses`: the loss over all its tokens."""
        return self.before + list(self.tokenize(text)[0]), len(self.before)

    @property
    def losses(self) -> Callable[[nn.Module, Tuple[List[int], int]], torch.Tensor]:
        """For `collector.gradients` and `collector.stream`, with batches of `text_loss`."""
        return self._loss

    def text_gradient(self, text: str) -> np.ndarray:
        """float32 [dim]: of an example, as it is ingested."""
        batch = self.text_loss(text)
        self._check(batch[0])
        return self.collector.gradients(batch, self._loss)[0]

    # --- the verbs --------------------------------------------------------------------------------

    def encode(self, prompt: str, target: str) -> Tuple[np.ndarray, float, int]:
        """(gradient float32 [dim], loss in nats, tokens) of the target after the prompt."""
        said = list(self.tokenize(target)[0])
        if not said:
            raise ArgumentError("the target is empty: it has no gradient")
        given = self.before + list(self.tokenize(prompt)[0])
        self._check(given + said)
        told: List[float] = []

        def losses(network: nn.Module, batch: Tuple[List[int], int]) -> torch.Tensor:
            loss = self._loss(network, batch)
            told.append(float(loss.detach()))
            return loss
        row = self.collector.gradients((given + said, len(given)), losses)[0]
        return row, told[0], len(said)

    def continue_prompt(self, prompt: str, tokens: int) -> str:
        """The likeliest next token, and so on."""
        given = self.before + list(self.tokenize(prompt)[0])
        if not given:
            raise ArgumentError("the prompt is empty")
        said: List[int] = []
        with torch.no_grad():
            while len(said) < tokens:
                seen = (given + said)[-self.context:] if self.context else given + said
                best = int(self._logits(torch.tensor([seen], device=self.device))[0, -1].argmax())
                if best == self.end:
                    break
                said.append(best)
        return self.decode(said)

    def explain(self, text: str, vector: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(shares float64 [T], spans [T, 2] in characters). A position counts for the token that is
        predicted there; those within `before` for the first."""
        ids, spans = self.tokenize(text)
        batch = (self.before + list(ids), len(self.before))
        self._check(batch[0])
        parts = self.collector.shares(vector, batch, self._loss)
        shares = np.zeros(len(ids))
        at = np.maximum(np.arange(len(parts)) + 1 - len(self.before), 0)
        np.add.at(shares, at, parts)
        return shares, np.asarray(spans, np.int64).reshape(-1, 2)
