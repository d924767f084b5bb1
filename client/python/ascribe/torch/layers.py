"""layers.py - which modules have a weight matrix whose gradient is delta^T a, and how it lies."""
from __future__ import annotations

import fnmatch
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import torch
from torch import nn

from ..errors import ArgumentError

Chosen = Union[None, str, Sequence[str], Callable[[str, nn.Module], bool]]


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's Conv1D of transformers: a linear layer whose weight lies [in, out]."""
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and \
        isinstance(weight, torch.Tensor) and weight.ndim == 2


def supported(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or is_conv1d(module)


def shape(module: Any) -> Tuple[int, int]:
    """(out, in), however the weight lies."""
    a, b = module.weight.shape
    return (b, a) if is_conv1d(module) else (a, b)


def choose(model: nn.Module, modules: Chosen) -> List[Tuple[str, nn.Module]]:
    """[(name, module)] in the model's order. modules: None for all that are supported, but an output
    layer whose weight is an embedding's; a shell pattern or several over names; or a function of
    (name, module)."""
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    patterns: Optional[List[str]] = None
    if isinstance(modules, str):
        patterns = [modules]
    elif isinstance(modules, Sequence):
        patterns = list(modules)

    def wanted(name: str, module: nn.Module) -> bool:
        if patterns is not None:
            return any(fnmatch.fnmatchcase(name, p) for p in patterns)
        if modules is not None and not isinstance(modules, (str, Sequence)):
            return bool(modules(name, module))
        return supported(module) and id(module.weight) not in tied

    out = [(n, m) for n, m in model.named_modules() if wanted(n, m) and supported(m)]
    if patterns is not None:
        names = [n for n, _ in model.named_modules()]
        for p in patterns:
            if not any(fnmatch.fnmatchcase(n, p) for n, _ in out):
                there = [n for n in names if fnmatch.fnmatchcase(n, p)]
                raise ArgumentError(f"modules {p!r}: " + (
                    f"{there[0]} is no nn.Linear or Conv1D" if there else "no module has such a name"))
    if not out:
        raise ArgumentError("no nn.Linear or Conv1D was chosen")
    return out
