"""metrics.py - figures of lists, and intervals. The definitions are those of `ascribe eval` (and of the
viewer of TrackStar's authors); where both compute the same, analyse.py checks that they agree.

Intervals: percentile bootstrap over queries, one set of resamples for all methods, so that the difference
of two methods is resampled in pairs.
"""
import numpy as np

RESAMPLES = 2000
FIGURES = ("mrr", "recall@10", "precision@10")


def of_list(correct):
    """(MRR, Recall@10, Precision@10) of one list of booleans, best first."""
    first = next((r for r, good in enumerate(correct) if good), None)
    return (0.0 if first is None else 1.0 / (1 + first), float(any(correct[:10])),
            sum(correct[:10]) / 10 if len(correct) >= 10 else 0.0)


def of_lists(records):
    """[queries, figures]."""
    return np.array([of_list(r["proponent_correct"]) for r in records])


class Bootstrap:
    """Resamples of n queries, drawn once."""

    def __init__(self, n, seed=1, resamples=RESAMPLES):
        self.n, draws = n, np.random.default_rng(seed).integers(0, n, (resamples, n))
        self.weights = np.apply_along_axis(np.bincount, 1, draws, minlength=n).astype("f8")

    def span(self, values, only=None):
        """{"mean", "low", "high", "error", "n"} of one number a query; NaN: not there. `only`: a
        boolean a query, resampled within the whole, so that pairs stay pairs."""
        values = np.asarray(values, "f8")
        here = np.isfinite(values) if only is None else np.isfinite(values) & only
        if not here.any():
            return None
        sums = self.weights @ np.where(here, values, 0.0)
        counts = self.weights @ here
        means = sums[counts > 0] / counts[counts > 0]
        low, high = np.percentile(means, [2.5, 97.5])
        return {"mean": float(values[here].mean()), "low": float(low), "high": float(high),
                "error": float(means.std(ddof=1)), "n": int(here.sum())}

    def difference(self, a, b, only=None):
        """The same of a - b, query by query."""
        return self.span(np.asarray(a, "f8") - np.asarray(b, "f8"), only)


def verdict(span):
    """What an interval of a difference says of "above zero"."""
    if span["low"] > 0:
        return "holds"
    return "does not hold" if span["high"] < 0 else "undecided"
