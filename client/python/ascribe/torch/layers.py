"""layers.py - which modules have a weight matrix whose gradient is delta^T a, and how it lies."""
from __future__ import annotations

import fnmatch
from typing import Callable, List, Sequence, Tuple, Union

from torch import nn

from ..errors import ArgumentError

Chosen = Union[None, str, Sequence[str], Callable[[str, nn.Module], bool]]


def is_conv1d(module: nn.Module) -> bool:
    """GPT-2's Conv1D of transformers: a linear layer whose weight lies [in, out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and \
        getattr(module, "weight", None) is not None and module.weight.ndim == 2


def supported(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or is_conv1d(module)


def shape(module: nn.Module) -> Tuple[int, int]:
    """(out, in), however the weight lies."""
    a, b = module.weight.shape
    return (b, a) if is_conv1d(module) else (a, b)


def choose(model: nn.Module, modules: Chosen) -> List[Tuple[str, nn.Module]]:
    """[(name, module)] in the model's order. modules: None for all that are supported, but an output
    layer whose weight is an embedding's; a shell pattern or several over names; or a function of
    (name, module)."""
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    patterns = [modules] if isinstance(modules, str) else modules

    def wanted(name: str, module: nn.Module) -> bool:
        if callable(patterns):
            return bool(patterns(name, module))
        if patterns is None:
            return supported(module) and id(module.weight) not in tied
        return any(fnmatch.fnmatchcase(name, p) for p in patterns)

    out = [(n, m) for n, m in model.named_modules() if wanted(n, m) and supported(m)]
    if patterns is not None and not callable(patterns):
        names = [n for n, _ in model.named_modules()]
        for p in patterns:
            if not any(fnmatch.fnmatchcase(n, p) for n, _ in out):
                there = [n for n in names if fnmatch.fnmatchcase(n, p)]
                raise ArgumentError(f"modules {p!r}: " + (
                    f"{there[0]} is no nn.Linear or Conv1D" if there else "no module has such a name"))
    if not out:
        raise ArgumentError("no nn.Linear or Conv1D was chosen")
    return out
