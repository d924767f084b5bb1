"""collector.py - per-example gradients of chosen modules, projected while the backward pass runs.

The gradient of a linear layer's weight for one example is W = sum over tokens t of delta_t a_t^T,
delta the gradient of its outputs, a its inputs. P W Q^T is therefore the small product of P delta
and Q a: two projections a token, and W is never made. Adafactor's second moment is a scaling of
either side and goes into P and Q. Adam's is not: then W is made, for one example and one module at
a time, divided and projected.

While it collects, parameters are frozen: the backward pass computes no gradient of a weight, and no
`.grad` is touched. Works wherever torch does; results are float32 on the CPU.
"""
from __future__ import annotations

import contextlib
import hashlib
import warnings
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

import numpy as np
import torch
from torch import nn

from .. import moment, projection
from ..errors import ArgumentError
from .layers import Chosen, choose, shape
from .moments import Moment


def _in_float32(device: torch.device) -> Any:
    """No gradient, and no autocast: it would take the projection's products in half precision."""
    stack = contextlib.ExitStack()
    stack.enter_context(torch.no_grad())
    if device.type in ("cpu", "cuda"):
        stack.enter_context(torch.autocast(device.type, enabled=False))
    return stack


class Block:
    """One module: its name, number, P and Q (with Adafactor's scaling in them), Adam's factor."""

    def __init__(self, number: int, name: str, module: nn.Module, seed: int, p: int,
                 second: Optional[Moment]):
        self.number, self.name, self.module, self.p = number, name, module, p
        self.out, self.inputs = shape(module)
        pair = projection.Projection(seed, number, self.out, self.inputs, p)
        left, right = pair.left, pair.right
        self.factor: Optional[torch.Tensor] = None
        if isinstance(second, moment.Adafactor):
            self._fits(second.left.shape + second.right.shape)
            left, right = second.fold(left, right)
        elif second is not None:
            self._fits(second.factor.shape)
            self.factor = torch.from_numpy(second.factor)
        self.left, self.right = torch.from_numpy(left), torch.from_numpy(right)

    def _fits(self, found: Tuple[int, ...]) -> None:
        if found != (self.out, self.inputs):
            raise ArgumentError(f"{self.name}: its second moment is {list(found)}, its weight "
                                f"{self.out} x {self.inputs} (out x in)")

    def to(self, device: torch.device) -> None:
        """Where the module's activations are."""
        if self.left.device != device:
            self.left, self.right = self.left.to(device), self.right.to(device)
            self.factor = None if self.factor is None else self.factor.to(device)

    def before(self, a: torch.Tensor) -> torch.Tensor:
        """What is kept of inputs [n, t, in] until the backward pass: [n, t, p] where that is all."""
        return a if self.factor is not None else a @ self.right.T

    def project(self, delta: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """[n, p, p] of delta [n, t, out] and what `before` kept."""
        if self.factor is None:
            return torch.einsum("ntp,ntq->npq", delta @ self.left.T, kept)
        out = delta.new_empty(len(delta), self.p, self.p)
        for i, (d, a) in enumerate(zip(delta, kept)):
            out[i] = self.left @ (d.T @ a).mul_(self.factor) @ self.right.T
        return out


class Rows:
    """The gradients of one collection: filled by the backward pass."""

    def __init__(self, blocks: List[Block], count: int):
        self.blocks, self.count = blocks, count
        self.parts: Dict[int, torch.Tensor] = {}
        self.seen: Set[int] = set()  # blocks that the forward pass used

    def _by_example(self, x: torch.Tensor, block: Block) -> torch.Tensor:
        """[n, t, features] float32 of [n, ..., features] or [n * t, features]."""
        if x.shape[0] != self.count and (x.ndim != 2 or x.shape[0] % self.count):
            raise ArgumentError(f"{block.name}: activations {list(x.shape)} are not of {self.count} "
                                "examples in the first dimension")
        return x.detach().reshape(self.count, -1, x.shape[-1]).float()

    def add(self, block: Block, delta: torch.Tensor, kept: torch.Tensor, version: int) -> None:
        """A backward pass reached a use of the block's module; uses add up."""
        if kept._version != version:  # with frozen weights autograd itself would not notice
            raise ArgumentError(f"{block.name}: its input was changed in place after its use")
        with _in_float32(delta.device):
            part = block.project(self._by_example(delta, block), kept)
            n = block.number
            self.parts[n] = self.parts[n] + part if n in self.parts else part

    def tensor(self) -> torch.Tensor:
        """float32 [n, dim] on the CPU: vec(P W' Q^T) of each block, side by side."""
        for b in self.blocks:
            if b.number not in self.seen:
                raise ArgumentError(f"{b.name} took no part in the forward pass (something else may "
                                    "use its weight directly): leave it out of modules")
            if b.number not in self.parts:
                raise ArgumentError(f"{b.name}: no gradient came back. Was backward() called inside "
                                    "collect(), and does the loss depend on it?")
        parts = [self.parts[b.number].reshape(self.count, -1) for b in self.blocks]
        return torch.cat([part.cpu() for part in parts], 1)

    def numpy(self) -> np.ndarray:
        """The same as an array."""
        return self.tensor().numpy()


class Shares(Rows):
    """What each position adds to <vector, gradient> of one example: where a row sums over positions,
    this keeps them apart. <V, P (D o G) Q^T> = sum over t of delta_t^T (D o (P^T V Q)) a_t."""

    def __init__(self, blocks: List[Block], vector: np.ndarray):
        super().__init__(blocks, 1)
        self.vector = torch.from_numpy(np.array(vector, np.float32))
        self.shares: Optional[torch.Tensor] = None  # float64 [t]

    def add(self, block: Block, delta: torch.Tensor, kept: torch.Tensor, version: int) -> None:
        if kept._version != version:
            raise ArgumentError(f"{block.name}: its input was changed in place after its use")
        with _in_float32(delta.device):
            d, size = self._by_example(delta, block)[0], block.p * block.p
            v = self.vector[block.number * size:(block.number + 1) * size].to(d.device)
            v = v.reshape(block.p, block.p)
            if block.factor is None:
                turned = (d @ block.left.T) @ v
            else:
                turned = d @ ((block.left.T @ v @ block.right) * block.factor)
            part = (turned * kept[0]).double().sum(1).cpu()
        if self.shares is not None and len(self.shares) != len(part):
            raise ArgumentError(f"{block.name}: {len(part)} positions, others have "
                                f"{len(self.shares)}")
        self.shares = part if self.shares is None else self.shares + part


class GradientCollector:
    """Per-example gradients of a model's linear layers, as a corpus takes them.

        collector = GradientCollector(model, p=32, second_moment=second_moments(optimizer, model))
        corpus = client.create_corpus("mine", **collector.definition())
        with collector.collect(len(batch)) as rows:
            losses(model, batch).sum().backward()
        corpus.put_batch("b1", rows.numpy(), examples)

    model          eval() mode, no layer that mixes examples (batch normalisation)
    modules        None: every nn.Linear and GPT-2 Conv1D whose weight is no embedding's; or names,
                   shell patterns ("*.mlp.*"), a function of (name, module)
    p              each module becomes p * p numbers, a block of its own
    seed           of the projection; queries need the same
    second_moment  {module name: ascribe.moment.Adam or Adafactor}, as `second_moments` gives

    The loss must be a sum over examples (not a mean over the batch), so that each example's
    gradient is its own; within an example, whatever you choose, the same for queries.
    """

    def __init__(self, model: nn.Module, modules: Chosen = None, p: int = 32, seed: int = 0,
                 second_moment: Optional[Mapping[str, Moment]] = None):
        if p < 1:
            raise ArgumentError(f"p {p}: at least 1")
        chosen = choose(model, modules)
        if second_moment is not None:
            missing = [n for n, _ in chosen if n not in second_moment]
            if missing:
                raise ArgumentError(f"no second moment of {missing[0]} ({len(missing)} such)")
        self.model, self.p, self.seed = model, p, seed
        moments = {} if second_moment is None else second_moment
        self.blocks = [Block(i, n, m, seed, p, moments.get(n)) for i, (n, m) in enumerate(chosen)]
        kinds = {(moments[n].kind, moments[n].eps) for n, _ in chosen if n in moments}
        if len(kinds) > 1:
            raise ArgumentError(f"second moments of several kinds: {sorted(kinds)}")
        self.moment = moment.definition(*(kinds.pop() if kinds else ("none",)))

    @property
    def dim(self) -> int:
        """Numbers in one gradient: modules * p * p."""
        return len(self.blocks) * self.p * self.p

    def fingerprint(self) -> str:
        """Of the model: a hash of all its parameters and buffers, by name."""
        h = hashlib.sha256()
        for name, x in self.model.state_dict().items():
            h.update(f"{name} {x.dtype} {list(x.shape)}\n".encode())
            if torch.is_tensor(x):
                h.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return "torch:" + h.hexdigest()[:32]

    def definition(self, dtype: str = "f32", loss: str = "sum", model: Optional[str] = None
                   ) -> Dict[str, Any]:
        """The corpus's definition, for `create_corpus(name, **definition)`. model: what to call it,
        by default its fingerprint."""
        return {"dim": self.dim, "dtype": dtype, "loss": loss, "model": model or self.fingerprint(),
                "blocks": [{"name": b.name, "dim": self.p * self.p} for b in self.blocks],
                "projection": projection.definition(self.seed, self.p), "second_moment": self.moment}

    def collect(self, count: int) -> Collection:
        """A context in which the gradients of `count` examples are collected: run the forward pass
        and backward() inside, then take `rows.numpy()`."""
        return Collection(self, count)

    def gradients(self, batch: Any, losses: Callable[[nn.Module, Any], torch.Tensor]) -> np.ndarray:
        """float32 [n, dim]. losses(model, batch) gives n losses [n], one an example."""
        with Collection(self, None) as rows:
            each = losses(self.model, batch)
            if each.ndim != 1:
                raise ArgumentError(f"losses must be [n], one an example, not {list(each.shape)}")
            if rows.count != len(each):
                raise ArgumentError(f"{len(each)} losses, activations of {rows.count} examples")
            each.sum().backward()
        return rows.numpy()

    def shares(self, vector: np.ndarray, batch: Any,
               losses: Callable[[nn.Module, Any], torch.Tensor]) -> np.ndarray:
        """float64 [t]: what each position of one example adds to <vector, its gradient>, vector
        [dim]; they sum to it. losses(model, batch) gives the one loss [1]."""
        if np.shape(vector) != (self.dim,):
            raise ArgumentError(f"vector {list(np.shape(vector))}: must be [{self.dim}]")
        shares = Shares(self.blocks, vector)
        with Collection(self, 1, shares):
            losses(self.model, batch).sum().backward()
        if shares.shares is None:
            raise ArgumentError("no gradient came back: does the loss depend on the modules?")
        return shares.shares.numpy()

    def stream(self, batches: Iterable[Tuple[Any, List[Any]]],
               losses: Callable[[nn.Module, Any], torch.Tensor]
               ) -> Iterator[Tuple[np.ndarray, List[Any]]]:
        """(gradients [n, dim], examples) of (batch, n examples): for `Corpus.ingest_stream`."""
        for batch, examples in batches:
            yield self.gradients(batch, losses), examples


class Collection:
    """What `collect` opens: hooks on the modules, parameters frozen; all undone at its end."""

    def __init__(self, collector: GradientCollector, count: Optional[int],
                 rows: Optional[Rows] = None):
        if count is not None and count < 1:
            raise ArgumentError(f"{count} examples")
        self.model, self.blocks = collector.model, collector.blocks
        self.rows = Rows(collector.blocks, count or 0) if rows is None else rows
        self.hooks: List[Any] = []
        self.frozen: List[nn.Parameter] = []

    def __enter__(self) -> Rows:
        if self.model.training:
            warnings.warn("the model is in training mode: dropout makes gradients random; "
                          "call model.eval() first", stacklevel=2)
        self.frozen = [p for p in self.model.parameters() if p.requires_grad]
        for p in self.frozen:
            p.requires_grad_(False)
        self.grad = torch.enable_grad()
        self.grad.__enter__()
        for b in self.blocks:
            self.hooks.append(b.module.register_forward_hook(self._hook(b)))  # type: ignore
        return self.rows

    def _hook(self, block: Block) -> Callable[..., torch.Tensor]:
        rows = self.rows

        def forward(module: nn.Module, args: Tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            if not torch.is_grad_enabled():  # the first pass of a checkpoint: the second one counts
                return output
            a = args[0]
            rows.count = rows.count or a.shape[0]
            rows.seen.add(block.number)
            block.to(a.device)
            with _in_float32(a.device):
                kept = block.before(rows._by_example(a, block))
            if not output.requires_grad:  # with frozen weights, the first layer begins the graph
                output = output.detach().requires_grad_().clone()
            # On the node, not the tensor: what happens to the tensor in place does not concern it.
            version = kept._version
            output.grad_fn.register_hook(lambda _, out: rows.add(block, out[0], kept, version))
            return output
        return forward

    def __exit__(self, *unused: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        for p in self.frozen:
            p.requires_grad_(True)
        self.grad.__exit__(None, None, None)
