"""test_projection.py - the projection's numbers in C equal a numpy implementation of docs/projection.md.

The implementation below is written from that page alone; its golden values are read from the page, so
neither the page nor either implementation can drift. Deviates and matrices are equal to the bit, the
projected block within the page's bound. Rounding to f16 in C equals numpy's.
"""
import os
import re
import subprocess
import unittest

import numpy as np

import harness as h

PAGE = os.path.join(h.ROOT, "docs/projection.md")


def philox(counter, key):
    """counter: four arrays of uint64 below 2^32; key: two ints. Four arrays of uint64 below 2^32."""
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> shift) ^ c1 ^ np.uint64(k0), b & low, (a >> shift) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def words(seed, block, side, first, count):
    n = np.arange(first, first + count, dtype=np.uint64)
    quad = n // np.uint64(4)
    counter = (quad & np.uint64(0xFFFFFFFF), quad >> np.uint64(32),
               np.full(count, block, np.uint64), np.full(count, side, np.uint64))
    lanes = np.stack(philox(counter, (seed % 2**32, seed >> 32)))
    return lanes[(n % np.uint64(4)).astype(int), np.arange(count)]


def log(x):
    m, e = np.frexp(x)
    small = m < float.fromhex("0x1.6a09e667f3bcdp-1")
    m, e = np.where(small, m * 2.0, m), np.where(small, e - 1, e).astype(float)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    t = np.full_like(x, 1.0 / 23.0)
    for n in range(21, 0, -2):
        t = t * z + 1.0 / n
    high, low = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
    return e * high + (e * low + (2.0 * s) * t)


def coefficients():
    """The page's table of coefficients: {"A": [...], ...}."""
    with open(PAGE, encoding="utf-8") as f:
        rows = re.findall(r"^\| ([A-F]) \| (.*) \|$", f.read(), re.M)
    return {name: [float(c) for c in row.split("|")] for name, row in rows}


def poly(c, x):
    v = np.full_like(x, c[7])
    for k in range(6, -1, -1):
        v = v * x + c[k]
    return v


def normals(seed, block, side, first, count, c):
    u = (words(seed, block, side, first, count).astype(float) + 0.5) * 2.0**-32
    q = u - 0.5
    r = 0.180625 - q * q
    centre = (q * poly(c["A"], r)) / poly(c["B"], r)
    r = np.sqrt(-log(np.where(q < 0, u, 1.0 - u)))
    near, far = r - 1.6, r - 5.0
    v = np.where(r <= 5.0, poly(c["C"], near) / poly(c["D"], near), poly(c["E"], far) / poly(c["F"], far))
    return np.where(np.abs(q) <= 0.425, centre, np.where(q < 0, -v, v))


def matrix(seed, block, side, rows, cols, c):
    return (normals(seed, block, side, 0, rows * cols, c) * (1.0 / np.sqrt(float(rows)))).astype(np.float32).reshape(rows, cols)


def example_gradient(rows, cols):
    r, c = np.indices((rows, cols))
    return ((7 * r + 3 * c) % 11 - 5).astype(float)


def printed(name, *args):
    """What `test_<name> --print` says, as floats."""
    out = subprocess.run([h.program(f"unit/index/test_{name}"), "--print", *map(str, args)],
                         check=True, capture_output=True, text=True).stdout
    return np.array([float.fromhex(line) for line in out.split()])


class Projection(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.c = coefficients()
        with open(PAGE, encoding="utf-8") as f:
            cls.page = f.read()

    def assert_bits(self, a, b):
        self.assertEqual(np.asarray(a).tobytes(), np.asarray(b, np.asarray(a).dtype).tobytes())

    def test_the_page_has_all_coefficients(self):
        self.assertEqual(sorted(self.c), list("ABCDEF"))
        self.assertTrue(all(len(row) == 8 for row in self.c.values()))
        self.assertEqual([self.c[x][0] for x in "BDF"], [1.0, 1.0, 1.0])

    def test_golden_deviates(self):
        rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (`.*`) \|$", self.page, re.M)
        self.assertGreaterEqual(len(rows), 6)
        for *stream, text in rows:
            seed, block, side, first = map(int, stream)
            golden = [float.fromhex(x) for x in re.findall(r"`(\S+)`", text)]
            self.assertEqual(len(golden), 4)
            self.assert_bits(normals(seed, block, side, first, 4, self.c), golden)
            self.assert_bits(printed("philox", seed, block, side, first, 4), golden)

    def test_c_and_numpy_draw_the_same_bits(self):
        tails = 0
        for seed, block, side, first in [(0, 0, 0, 0), (2**64 - 1, 2**32 - 1, 1, 5), (99, 3, 0, 2**34 - 7),
                                         (1, 2, 1, 2**63), (123456789012345, 15, 1, 1)]:
            here = normals(seed, block, side, first, 40000, self.c)
            self.assert_bits(printed("philox", seed, block, side, first, 40000), here)
            tails += int(np.sum(np.abs(here) > 1.4395))  # beyond |q| = 0.425: the logarithm decides
        self.assertGreater(tails, 20000)

    def test_golden_block(self):
        rows = dict(re.findall(r"^\| (P|Q|P W Q\^T)(?: \(.*\))? \| (`.*`) \|$", self.page, re.M))
        golden = {name: [float.fromhex(x) for x in re.findall(r"`(\S+)`", text)] for name, text in rows.items()}
        p, q = matrix(7, 2, 0, 2, 3, self.c), matrix(7, 2, 1, 2, 4, self.c)
        self.assert_bits(p.ravel(), golden["P"])
        self.assert_bits(q.ravel(), golden["Q"])
        self.within_bound(p, q, example_gradient(3, 4), np.array(golden["P W Q^T"]).reshape(2, 2))

    def within_bound(self, p, q, w, got):
        p, q = p.astype(float), q.astype(float)
        n = (w.shape[0] + w.shape[1] + 2) * 2.0**-24
        bound = n / (1 - n) * (np.abs(p) @ np.abs(w) @ np.abs(q).T)
        self.assertTrue(np.all(np.abs(got - p @ w @ q.T) <= bound))

    def test_c_and_numpy_make_the_same_projection(self):
        for seed, block, o, i, p in [(7, 2, 3, 4, 2), (0, 0, 65, 33, 8), (5, 1, 128, 512, 16), (11, 9, 1, 1, 1)]:
            out = printed("project", seed, block, o, i, p)
            left, right = matrix(seed, block, 0, p, o, self.c), matrix(seed, block, 1, p, i, self.c)
            self.assert_bits(out[:p * o].astype(np.float32), left.ravel())
            self.assert_bits(out[p * o:p * (o + i)].astype(np.float32), right.ravel())
            self.within_bound(left, right, example_gradient(o, i), out[p * (o + i):].reshape(p, p))

    def test_rounding_to_f16_is_numpys(self):
        rng = np.random.default_rng(3)
        x = rng.integers(0, 2**32, 300000, dtype=np.uint32).view(np.float32)
        x = np.concatenate([x[np.isfinite(x)], (rng.standard_normal(200000) * 10.0**rng.uniform(-9, 6, 200000)).astype(np.float32)])
        out = subprocess.run([h.program("unit/index/test_vec"), "--narrow", "f16"], input=x.tobytes(),
                             check=True, capture_output=True).stdout
        with np.errstate(over="ignore"):
            self.assertEqual(out, x.astype(np.float16).tobytes())


if __name__ == "__main__":
    h.main()
