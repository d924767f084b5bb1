"""projection.py - the random projection g = vec(P W Q^T): the same numbers as the C code, to the bit.

Philox4x32-10 and Wichura's AS 241 as docs/projection.md writes them down; every operation in
float64, in the order stated there. P is p x o, Q is p x i, entries normal with variance 1/p, a
function of (seed, block, side, entry) alone.
"""
from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np

from .errors import ArgumentError

LEFT, RIGHT = 0, 1  # P and Q

_PIECE = 1 << 18  # deviates made at a time: some 30 MiB of scratch

# M. J. Wichura, The percentage points of the normal distribution, Applied Statistics 37 (1988).
_A = (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
      1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
      3.3430575583588128105e4, 2.5090809287301226727e3)
_B = (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
      2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
      5.2264952788528545610e3)
_C = (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
      3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
      2.27238449892691845833e-2, 7.74545014278341407640e-4)
_D = (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
      1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
      1.05075007164441684324e-9)
_E = (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0,
      2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
      2.71155556874348757815e-5, 2.01033439929228813265e-7)
_F = (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
      7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
      2.04426310338993978564e-15)
_ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
_LOW32, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


def _philox(quad: np.ndarray, seed: int, block: int, side: int) -> np.ndarray:
    """Words 4q .. 4q+3 for each counter q of `quad` (uint64): uint64 [len(quad), 4], below 2^32."""
    c0, c1 = quad & _LOW32, quad >> _SHIFT
    c2, c3 = np.full_like(quad, block), np.full_like(quad, side)
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = ((b >> _SHIFT) ^ c1 ^ np.uint64(k0), b & _LOW32,
                          (a >> _SHIFT) ^ c3 ^ np.uint64(k1), a & _LOW32)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), axis=1)


def _log(x: np.ndarray) -> np.ndarray:
    """log x by + - * / alone: 2 artanh((m - 1)/(m + 1)) by its series, and ln 2 in two parts."""
    m, e = np.frexp(x)
    small = m < _ROOT_HALF
    m, e = np.where(small, m * 2.0, m), np.where(small, e - 1, e).astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = np.full_like(x, 1.0 / 23.0)
    for n in range(21, 0, -2):
        t = t * z + 1.0 / n
    return e * _LN2_HIGH + (e * _LN2_LOW + (2.0 * s) * t)


def _poly(c: Any, x: np.ndarray) -> np.ndarray:
    v = np.full_like(x, c[7])
    for k in range(6, -1, -1):
        v = v * x + c[k]
    return v


def _deviates(words: np.ndarray) -> np.ndarray:
    """Normal deviates of 32-bit words: AS 241, routine PPND16."""
    u = (words.astype(np.float64) + 0.5) * 2.0**-32
    q = u - 0.5
    r = 0.180625 - q * q
    out = (q * _poly(_A, r)) / _poly(_B, r)
    tail = np.flatnonzero(np.abs(q) > 0.425)
    u, q = u[tail], q[tail]
    r = np.sqrt(-_log(np.where(q < 0, u, 1.0 - u)))
    near, far = r - 1.6, r - 5.0
    v = np.where(r <= 5.0, _poly(_C, near) / _poly(_D, near), _poly(_E, far) / _poly(_F, far))
    out[tail] = np.where(q < 0, -v, v)
    return out


def normals(seed: int, block: int, side: int, first: int, count: int) -> np.ndarray:
    """Deviates number first .. first+count-1 of the stream (seed, block, side): float64 [count]."""
    if not (0 <= seed < 2**64 and 0 <= block < 2**32 and side in (LEFT, RIGHT)):
        raise ArgumentError(f"seed {seed}, block {block}, side {side}: 64 bits, 32 bits, 0 or 1")
    if not (0 <= first and 0 <= count and first + count <= 2**64):
        raise ArgumentError(f"deviates {first} to {first + count}: within 64 bits")
    out = np.empty(count, np.float64)
    for at in range(0, count, _PIECE):
        take = min(_PIECE, count - at)
        begin = first + at
        quads = np.arange((begin + take - 1) // 4 - begin // 4 + 1, dtype=np.uint64)
        words = _philox(quads + np.uint64(begin // 4), seed, block, side).reshape(-1)
        out[at:at + take] = _deviates(words[begin % 4:begin % 4 + take])
    return out


def matrix(seed: int, block: int, side: int, p: int, columns: int) -> np.ndarray:
    """P (side LEFT, columns o) or Q (side RIGHT, columns i) of a block: float32 [p, columns]."""
    if p < 1 or columns < 1:
        raise ArgumentError(f"a projection of {p} x {columns}")
    deviates = normals(seed, block, side, 0, p * columns)
    return (deviates * (1.0 / np.sqrt(float(p)))).astype(np.float32).reshape(p, columns)


class Projection:
    """P and Q of one block, for gradients W [rows, columns] = [out, in] of its weight matrix.

        left [p, rows] and right [p, columns]: float32
    """

    def __init__(self, seed: int, block: int, rows: int, columns: int, p: int):
        self.seed, self.block, self.rows, self.columns, self.p = seed, block, rows, columns, p
        self.left = matrix(seed, block, LEFT, p, rows)
        self.right = matrix(seed, block, RIGHT, p, columns)

    def apply(self, w: np.ndarray, dtype: Optional[Any] = None) -> np.ndarray:
        """vec(P W Q^T): [p*p] of W [rows, columns], or [n, p*p] of [n, rows, columns]; float32, or
        computed in `dtype`."""
        w = np.asarray(w)
        if w.shape[-2:] != (self.rows, self.columns):
            raise ArgumentError(f"W is {list(w.shape)}, the block {self.rows} x {self.columns}")
        dtype = dtype or np.float32
        g = self.left.astype(dtype) @ w.astype(dtype) @ self.right.astype(dtype).T
        return g.reshape(*w.shape[:-2], self.p * self.p)

    def apply_factors(self, delta: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The same for W = sum over t of delta[t] inputs[t]^T, without making W: delta [t, rows] the
        gradient of the outputs, inputs [t, columns]; [p*p] float32."""
        d = np.asarray(delta, np.float32) @ self.left.T
        a = np.asarray(inputs, np.float32) @ self.right.T
        return (d.T @ a).reshape(self.p * self.p)


def definition(seed: int, p: int) -> Dict[str, Any]:
    """What a corpus's manifest says of it: the same words as ascribe-lm's."""
    return {"kind": "two-sided-gaussian", "p": p, "seed": seed, "scale": "1/sqrt(p)",
            "generator": "philox4x32-10"}
