"""moment.py - dividing a gradient by the root of its optimiser's second moment, before projecting.

The formulas of docs/encoding.md, section 1, for numpy arrays. Gradients and moments are [out, in], as
the projection takes them.
"""
from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np

from .errors import ArgumentError

ADAM_EPS, ADAFACTOR_EPS = 1e-8, 1e-30


def _checked(x: Any, what: str) -> np.ndarray:
    x = np.asarray(x, np.float64)
    bad = np.flatnonzero(~(np.isfinite(x) & (x >= 0)).reshape(-1))
    if bad.size:
        raise ArgumentError(f"{what}: element {bad[0]} is {x.reshape(-1)[bad[0]]}")
    return x


class Adam:
    """W / (sqrt(V) + eps), V [out, in] the mean of squared gradients. `factor` float32 [out, in] is
    what W is multiplied with: computed in float64, rounded once."""
    kind = "adam"

    def __init__(self, v: Any, eps: float = ADAM_EPS):
        self.eps = eps
        divisor = np.sqrt(_checked(v, "second moment")) + eps
        if not divisor.all():
            raise ArgumentError("second moment: zero, and eps is 0")
        self.factor = (1.0 / divisor).astype(np.float32)

    def apply(self, w: np.ndarray) -> np.ndarray:
        """W' of W [..., out, in]."""
        return w * self.factor


class Adafactor:
    """W / sqrt(row col / mean(row)), eps added to both factors first: row [out] and col [in] are
    the means of the squared gradient over the other side. It is a scaling of either side, `left`
    [out] and `right` [in] float32, so it goes into P and Q and V is never made."""
    kind = "adafactor"

    def __init__(self, row: Any, col: Any, eps: float = ADAFACTOR_EPS):
        self.eps = eps
        r = _checked(row, "row factor").reshape(-1) + eps
        c = _checked(col, "column factor").reshape(-1) + eps
        if not (r.all() and c.all()):
            raise ArgumentError("second moment: a factor is zero, and eps is 0")
        self.left = (np.sqrt(r.mean()) / np.sqrt(r)).astype(np.float32)
        self.right = (1.0 / np.sqrt(c)).astype(np.float32)

    def apply(self, w: np.ndarray) -> np.ndarray:
        """W' of W [..., out, in]."""
        return w * self.left[:, None] * self.right

    def fold(self, p: np.ndarray, q: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """(P', Q') with P' W Q'^T = P W' Q^T."""
        return p * self.left, q * self.right


def definition(kind: Optional[str], eps: Optional[float] = None) -> Dict[str, Any]:
    """What a corpus's manifest says of it."""
    if kind in (None, "none"):
        return {"kind": "none"}
    if kind not in ("adam", "adafactor"):
        raise ArgumentError(f"second moment {kind!r}: adam, adafactor or none")
    usual = ADAM_EPS if kind == "adam" else ADAFACTOR_EPS
    return {"kind": kind, "eps": usual if eps is None else eps}
