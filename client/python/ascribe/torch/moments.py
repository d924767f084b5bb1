"""moments.py - the second moment out of a torch optimiser's state, as [out, in] of each module.

Adam, AdamW, NAdam and RAdam keep `exp_avg_sq`; Adafactor keeps factors: transformers' as
`exp_avg_sq_row` and `exp_avg_sq_col`, torch's own as `row_var` and `col_var`.
"""
from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Union

import torch
from torch import nn

from .. import moment
from ..errors import ArgumentError
from .layers import Chosen, choose, is_conv1d

Moment = Union[moment.Adam, moment.Adafactor]


def _array(x: torch.Tensor) -> Any:
    return x.detach().to("cpu", torch.float64).numpy()


def _beta2(optimizer: torch.optim.Optimizer, weight: Any) -> Optional[float]:
    for group in optimizer.param_groups:
        if any(p is weight for p in group["params"]):
            betas = group.get("betas")
            return float(betas[1]) if betas else None
    return None


def _adam(state: Mapping[str, Any], beta2: Optional[float], flip: bool, eps: float) -> Moment:
    """V is divided by 1 - beta2^step, as the optimiser's own step does."""
    v, step = _array(state["exp_avg_sq"]), float(state.get("step", 0))
    if beta2 is not None and step > 0:
        v = v / (1.0 - beta2**step)
    return moment.Adam(v.T if flip else v, eps)


def _adafactor(row: torch.Tensor, col: torch.Tensor, flip: bool, eps: float) -> Moment:
    r, c = _array(row).reshape(-1), _array(col).reshape(-1)
    return moment.Adafactor(c, r, eps) if flip else moment.Adafactor(r, c, eps)


def second_moments(optimizer: torch.optim.Optimizer, model: nn.Module, modules: Chosen = None,
                   eps: Optional[float] = None) -> Dict[str, Moment]:
    """{module name: its second moment}, for `GradientCollector(second_moment=...)`. modules as
    there. eps: 1e-8 for Adam (added to the root), 1e-30 for Adafactor (added to the factors)."""
    out: Dict[str, Moment] = {}
    for name, module in choose(model, modules):
        state, flip = optimizer.state.get(module.weight, {}), is_conv1d(module)
        if "exp_avg_sq" in state:
            out[name] = _adam(state, _beta2(optimizer, module.weight), flip,
                              moment.ADAM_EPS if eps is None else eps)
            continue
        small = moment.ADAFACTOR_EPS if eps is None else eps
        for row, col in (("exp_avg_sq_row", "exp_avg_sq_col"), ("row_var", "col_var")):
            if row in state and col in state:
                out[name] = _adafactor(state[row], state[col], flip, small)
                break
        else:
            raise ArgumentError(f"{name}: the optimiser has no second moment of its weight "
                                f"(it has {sorted(state) or 'nothing: was a step made?'})")
    return out
