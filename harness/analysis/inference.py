"""Intervals and tests of paired differences, and corrections over a family of tests; all of them for plain arrays."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # those of scipy.stats.t, which takes half a second to import

from harness.analysis.rows import Floats

RESAMPLES = 2**14
"""Sign flips of a permutation test: all of them, so an exact p, up to 14 pairs; beyond, a seeded sample."""

EXACT_RANKS = 200
"""Pairs up to which the signed-rank test is exact; beyond, its p comes from sampled signs."""


def t_interval(x: ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats, Floats]:
    """Mean of `x` along its last axis with its 1 - `alpha` t interval: (mean, low, high).

    With one value, the interval is NaN.
    """
    x = np.asarray(x, dtype=float)
    mean, error, freedom = _moments(x)
    half = -stdtrit(freedom, alpha / 2) * error
    return mean, mean - half, mean + half


def widened(d: Floats, overlap: float) -> Floats:
    """Differences over the folds of one cross-validation, spread so far that t tests of them are right.

    Folds share training data, so their mean has a variance of (1/n + test/train) times that of a difference instead of
    1/n (Nadeau & Bengio 2003, section 3, the corrected resampled t test).

    Args:
        d: differences (n,), one a fold.
        overlap: test / train, 1 / (n - 1) for n folds.
    """
    return np.asarray(d.mean() + (d - d.mean()) * math.sqrt(1 + d.size * overlap))


def t_test(x: ArrayLike) -> Floats:
    """Two-sided p of the t test that the mean of `x` along its last axis is zero.

    Where all values are equal the deviation says nothing, and p is the exact one of the sign flips: 1 if they are zero,
    else 2 / 2**n. With one value it is NaN.
    """
    mean, error, freedom = _moments(np.asarray(x, dtype=float))
    p = 2 * stdtr(freedom, -np.abs(_ratio(mean, error)))
    return np.asarray(np.where((error == 0) & (mean != 0), 2.0**-freedom, p))


def tost(x: ArrayLike, margin: float) -> Floats:
    """P of the two one-sided t tests that the mean of `x` along its last axis lies inside ±`margin`.

    It is below 0.05 exactly when the 90 % t interval lies inside (Schuirmann 1987). Where all values are equal and
    inside, p is that of the sign test: 1 / 2**n.
    """
    mean, error, freedom = _moments(np.asarray(x, dtype=float))
    above_low = stdtr(freedom, -_ratio(mean + margin, error))
    below_high = stdtr(freedom, _ratio(mean - margin, error))
    p = np.maximum(above_low, below_high)
    return np.asarray(np.where((error == 0) & (np.abs(mean) < margin), 0.5 ** (freedom + 1), p))


def sign_flip_test(x: ArrayLike) -> float:
    """Two-sided p of the permutation test that flips the signs of `x`, shape (n,); exact up to n = 14."""
    x = np.asarray(x, dtype=float)
    if not x.any() or x.size < 2:  # one difference is as large with either sign
        return 1.0 if x.size else math.nan
    null, mean = _flips(x.size) @ x / x.size, x.mean()
    near = 100 * np.finfo(float).eps * np.abs(x).mean()  # means that differ by rounding alone are equal
    fewer = min((null <= mean + near).sum(), (null >= mean - near).sum())
    sampled = int(2**x.size > RESAMPLES)  # then the data themselves count as one more (Phipson and Smyth 2010)
    return float(min(1.0, 2 * (fewer + sampled) / (len(null) + sampled)))


@lru_cache(maxsize=8)
def _flips(n: int) -> Floats:
    """The signs that a permutation test of `n` pairs tries, shape (flips, n): all, or a sample for large `n`."""
    if 2**n <= RESAMPLES:
        return np.asarray(1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1), dtype=float)
    # The stream of scipy.stats.permutation_test, so that its p values are reproduced.
    both = np.tile([1.0, -1.0], (RESAMPLES, n, 1))
    return np.ascontiguousarray(np.random.default_rng(0).permuted(both, axis=-1)[..., 0])


def signed_ranks(x: ArrayLike) -> Floats:
    """Ranks of the absolute nonzero values of `x`, with their signs: what the Wilcoxon test permutes.

    Infinite values share the highest rank.
    """
    x = np.asarray(x, dtype=float)
    x = x[x != 0]
    _, group, size = np.unique(np.abs(x), return_inverse=True, return_counts=True)
    return np.asarray(np.sign(x) * (np.cumsum(size) - (size - 1) / 2)[group])  # equal values share their mean rank


def signed_rank_test(x: ArrayLike) -> float:
    """Two-sided p of the Wilcoxon signed-rank test of `x`, shape (n,), given its ties; zeros are left out.

    It is exact up to `EXACT_RANKS` values. Without values it is NaN, and 1 where all are zero.
    """
    x = np.asarray(x, dtype=float)
    ranks = signed_ranks(x)
    if not ranks.size:
        return 1.0 if x.size else math.nan
    if ranks.size > EXACT_RANKS:
        return sign_flip_test(ranks)
    # Mean ranks are halves, so doubled they are counts. `chance` is the distribution of the sum of the positive ones.
    doubled = np.rint(2 * np.abs(ranks)).astype(int)
    chance = np.zeros(doubled.sum() + 1)
    chance[0] = 1.0
    for rank in doubled:
        chance[rank:] += chance[:-rank].copy()
    chance /= chance.sum()
    seen = int(doubled[ranks > 0].sum())
    return min(1.0, 2 * float(min(chance[: seen + 1].sum(), chance[seen:].sum())))


def holm(p: ArrayLike) -> Floats:
    """P values corrected by Holm's step-down method along the last axis; NaN stay NaN and are not counted."""
    # Not statsmodels' multipletests: its import and its garbage collection take longer than all the rest.
    values, order, count = _ordered(p)
    remaining = count - np.arange(values.shape[-1])
    stepped = np.maximum.accumulate(np.take_along_axis(values, order, axis=-1) * remaining, axis=-1)
    return _back(stepped, order)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """The q values of Benjamini and Hochberg 1995 along the last axis; NaN stay NaN and are not counted.

    Calling true what has q below a level keeps the expected share of false calls below it, for independent tests and
    for those that are positively dependent, as arms with a common baseline are (Benjamini and Yekutieli 2001).
    """
    values, order, count = _ordered(p)
    scaled = np.take_along_axis(values, order, axis=-1) * count / np.arange(1, values.shape[-1] + 1)
    # From the largest p down; NaN, which come first on this way, are passed over.
    stepped = np.fmin.accumulate(scaled[..., ::-1], axis=-1)[..., ::-1]
    return _back(np.where(np.isnan(scaled), math.nan, stepped), order)


def _ordered(p: ArrayLike) -> tuple[Floats, NDArray[np.intp], Floats]:
    """The p values, their order with NaN last, and how many are none."""
    values = np.asarray(p, dtype=float)
    return values, np.argsort(values, axis=-1), np.asarray(np.isfinite(values).sum(axis=-1, keepdims=True))


def _back(stepped: Floats, order: NDArray[np.intp]) -> Floats:
    """Corrected p values at the places of those that they correct."""
    corrected = np.empty_like(stepped)
    np.put_along_axis(corrected, order, np.minimum(stepped, 1.0), axis=-1)
    return corrected


def deviation(x: Floats) -> Floats:
    """The standard deviation along the last axis, of two values or more; exactly zero where all are equal."""
    # The mean of equal values is rounded, and their deviation from it would be some 1e-16.
    return np.asarray(np.where(np.ptp(x, axis=-1) == 0, 0.0, x.std(axis=-1, ddof=1)))


def _moments(x: Floats) -> tuple[Floats, Floats, int]:
    """Mean, standard error and degrees of freedom along the last axis."""
    n = x.shape[-1]
    error = deviation(x) / math.sqrt(n) if n > 1 else np.full(x.shape[:-1], math.nan)
    return x.mean(axis=-1), error, n - 1


def _ratio(a: ArrayLike, b: ArrayLike) -> Floats:
    """A / b, where 0 / 0 is 0 and other divisions by zero are infinite."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((a == 0) & (b == 0), 0.0, a / b)
