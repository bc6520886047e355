"""Shrunk effects for studies of many arms: empirical Bayes, with what the arms share taken out first.

An arm's differences are regressed on what the arms share, seed by seed, with a slope between 0 (an arm that rises and
falls with its own baseline, such as a moving average) and 1; the intercept is the arm's own part. Own parts over their
standard errors are a mixture of normal variables around zero, whose weights all arms estimate together (Stephens 2017,
"False discovery rates: a new deal"; effects in units of their errors as in van Zwet, Schwab and Senn 2021, "The
statistical properties of RCTs and a proposal for shrinkage"). Wide components hold the arms that collapse, so these
widen nobody else's prior. Standard errors of a few seeds are moderated over the arms (Smyth 2004, "Linear models and
empirical Bayes methods for assessing differential expression in microarray experiments").

Whether it predicts is tried on the study's own rows: half of the seeds against the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, ndtr, polygamma, stdtr

from harness.analysis.rows import Floats

FENCES = 3.0
"""Interquartile ranges beyond the quartiles where an effect lies far out (Tukey 1977, section 2D)."""

SPLITS = 60
"""Random halves of the seeds on which shrinkage is tried."""

LEAST_HALF = 4
"""Seeds in a half: a slope and an intercept leave at least two degrees of freedom."""

SURE = 0.9
TOLERANCE = 0.05
"""By how much more than what came the chances may claim, on average and where they claim at least `SURE`."""

NARROWEST = 0.1
STEPS = 100


@dataclass(frozen=True)
class Shrunk:
    """One arm: its effect as measured, its own part shrunk, both in the unit of the analysis, and a chance.

    The chance, in [0.5, 1], is that the own part has the sign of the shrunk one.
    """

    arm: str
    raw: float
    shrunk: float
    chance: float


@dataclass(frozen=True)
class Halves:
    """What `seeds` seeds predict of as many others, over `splits` random halves.

    `raw`, `predicted` and `came` are mean own parts of the mild arms that helped with p < 0.05 on the first half: as
    measured there, as predicted from it, and as measured on the other; NaN where none did. `error_raw` and
    `error_shrunk` are mean absolute errors of both predictions over all mild arms. `claimed` is the mean chance that an
    arm has the predicted sign on the other half, `held` how often it had; `sure_claimed` and `sure_held` are those of
    chances of at least 0.9.
    """

    seeds: int
    splits: int
    raw: float
    predicted: float
    came: float
    error_raw: float
    error_shrunk: float
    claimed: float
    held: float
    sure_claimed: float
    sure_held: float

    @property
    def holds(self) -> bool:
        """Whether shrinking predicts no worse than not shrinking, and no chance claims more than what came."""
        over = (self.claimed - self.held, self.sure_claimed - self.sure_held)
        return self.error_shrunk <= self.error_raw and not any(gap > TOLERANCE for gap in over)


def mild(d: Floats) -> NDArray[np.bool_]:
    """Which arms lie within Tukey's far-out fences of all mean effects.

    Args:
        d: differences from the baseline, shape (arms, seeds).
    """
    means = d.mean(axis=1)
    first, third = np.quantile(means, [0.25, 0.75])
    far = FENCES * (third - first)
    return np.asarray((means >= first - far) & (means <= third + far))


def middle(d: Floats, kept: NDArray[np.bool_]) -> Floats:
    """What the arms share seed by seed, (seeds,): the mean over the middle half, by effect, of the arms `kept`."""
    chosen = np.flatnonzero(kept)
    chosen = chosen[np.argsort(d[chosen].mean(axis=1), kind="stable")]
    cut = len(chosen) // 4
    return np.asarray(d[chosen[cut : len(chosen) - cut]].mean(axis=0))


def shrink(arms: Sequence[str], d: Floats) -> tuple[Shrunk, ...]:
    """Every arm's shrunk own part and the chance that its sign holds.

    Args:
        arms: names, one for each row.
        d: differences from the baseline, shape (arms, seeds), with at least 3 seeds.
    """
    x, error = own_parts(d, middle(d, mild(d)))
    weights, mean, variance = posterior(x, moderated(error, d.shape[1] - 2))
    shrunk = (weights * mean).sum(axis=1)
    above = (weights * ndtr(mean / np.sqrt(variance))).sum(axis=1)
    chance = np.where(shrunk >= 0, above, 1 - above)
    return tuple(
        Shrunk(*each)
        for each in zip(arms, d.mean(axis=1).tolist(), shrunk.tolist(), np.maximum(chance, 0.5).tolist(), strict=True)
    )


def own_parts(d: Floats, shared: Floats) -> tuple[Floats, Floats]:
    """What of each effect is the arm's own, and its standard error: shape (arms,) each.

    Least squares of the arm's differences on `shared`, shape (seeds,), with the slope held in [0, 1].
    """
    n, level = len(shared), shared.mean()
    about = shared - level
    spread = (about**2).sum()
    slope = np.clip(d @ about / spread, 0, 1) if spread else np.zeros(len(d))
    rest = d - d.mean(axis=1, keepdims=True) - slope[:, None] * about
    variance = (rest**2).sum(axis=1) / (n - 2)
    return d.mean(axis=1) - slope * level, np.sqrt(variance * (1 / n + (level**2 / spread if spread else 0)))


def moderated(error: Floats, freedom: int) -> Floats:
    """Standard errors drawn to their common level as far as chance explains their spread (Smyth 2004, section 6.2).

    Args:
        error: standard errors, shape (arms,); those of arms that never vary are zero.
        freedom: degrees of freedom of each.
    """
    most = float(error.max())
    known = error > 1e-9 * most
    if known.sum() < 2:
        return np.full(error.shape, max(most, 1e-9))
    log = 2 * np.log(error[known]) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = log.var(ddof=1) - polygamma(1, freedom / 2)
    prior = 2 * _trigamma_inverse(excess) if excess > 0 else np.inf
    if not np.isfinite(prior):
        return np.full(error.shape, np.exp(log.mean() / 2))
    level = np.exp(log.mean() + digamma(prior / 2) - np.log(prior / 2))
    return np.asarray(np.sqrt((prior * level + freedom * error**2) / (prior + freedom)))


def _trigamma_inverse(y: float) -> float:
    """Where the trigamma function is `y`, by Newton's steps on its reciprocal, which converge from below."""
    x = 0.5 + 1 / y
    for _ in range(50):
        value = polygamma(1, x)
        step = value * (1 - value / y) / polygamma(2, x)
        x += step
        if abs(step) < 1e-9 * x:
            break
    return float(x)


def posterior(x: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights, means and variances of the normal components of each arm's posterior: shape (arms, components) each.

    Prior standard deviations are multiples of the arm's error, from `NARROWEST` up in steps of the square root of two.
    """
    widest = 2 * max(float(np.max(np.abs(x / error))), 1.0)
    ratios = NARROWEST * np.sqrt(2) ** np.arange(np.ceil(2 * np.log2(widest / NARROWEST)) + 1)
    total = (1 + ratios**2) * error[:, None] ** 2
    log = -0.5 * (np.log(total) + x[:, None] ** 2 / total)
    likelihood = np.exp(log - log.max(axis=1, keepdims=True))
    share = np.full(len(ratios), 1 / len(ratios))
    for _ in range(STEPS):  # of expectation and maximisation
        share = (likelihood * (share / (likelihood @ share)[:, None])).mean(axis=0)
    weights = likelihood * (share / (likelihood @ share)[:, None])
    keep = ratios**2 / (1 + ratios**2)
    return weights, keep * x[:, None], keep * error[:, None] ** 2


def validate(d: Floats) -> Halves | None:
    """Predict one half of the seeds from the other, again and again; None with fewer than twice `LEAST_HALF` seeds.

    Args:
        d: differences from the baseline, shape (arms, seeds), turned so that higher is better.
    """
    half = d.shape[1] // 2
    if half < LEAST_HALF:
        return None
    draw = np.random.default_rng(0)
    found = []
    for _ in range(SPLITS):
        order = draw.permutation(d.shape[1])
        seen, fresh = d[:, order[:half]], d[:, order[half : 2 * half]]
        kept = mild(seen)
        x, error = own_parts(seen, middle(seen, kept))
        came, _ = own_parts(fresh, middle(fresh, kept))
        level = moderated(error, half - 2)
        weights, mean, variance = posterior(x, level)
        predicted = (weights * mean).sum(axis=1)
        up = (weights * ndtr(mean / np.sqrt(variance + level[:, None] ** 2))).sum(axis=1)
        p = 2 * stdtr(half - 2, -np.abs(x) / np.maximum(error, 1e-300))
        found.append([x, predicted, came, up, p, kept])
    x, predicted, came, up, p, inside = np.concatenate(found, axis=1)
    chance = np.maximum(up, 1 - up)
    held = np.where(came == 0, 0.5, (came > 0) == (up > 0.5))
    kept, sure = inside > 0, chance >= SURE
    gains = kept & (x > 0) & (p < 0.05)
    return Halves(
        seeds=half,
        splits=SPLITS,
        raw=_mean(x[gains]),
        predicted=_mean(predicted[gains]),
        came=_mean(came[gains]),
        error_raw=_mean(np.abs(x - came)[kept]),
        error_shrunk=_mean(np.abs(predicted - came)[kept]),
        claimed=_mean(chance),
        held=_mean(held),
        sure_claimed=_mean(chance[sure]),
        sure_held=_mean(held[sure]),
    )


def _mean(x: Floats) -> float:
    return float(x.mean()) if x.size else float("nan")
