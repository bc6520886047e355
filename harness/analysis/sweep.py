"""What the arms of a large study share: one baseline, and with it the baseline's luck on these seeds.

Every effect is arm minus baseline, so a seed on which the baseline happened to do badly lifts all arms that do not
share that luck. How much that is can be read off the arms themselves, and off a placebo where there is one. From
`SHRUNK_FROM` arms on, their effects are also shrunk (`harness.analysis.shrinkage`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.analysis.inference import t_interval
from harness.analysis.rows import Floats
from harness.analysis.shrinkage import Halves, Shrunk, middle, mild, shrink, validate
from harness.analysis.types import Analysis
from harness.analysis.verdicts import MIN_SEEDS

SHARED_FROM = 10
"""Arms from which it is said what they share."""

SHRUNK_FROM = 20
"""Arms from which their spread is known well enough to shrink their effects."""

PLACEBO = "placebo"


@dataclass(frozen=True)
class Level:
    """A mean over `n` seeds in the unit of the analysis, with its t interval at level 1 - alpha."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Sweep:
    """What the arms of one study share.

    `arms` counts those with a pair on every seed that changed anything, without the placebo; `left_out` the others that
    have effects but lack a seed. `mild_arms` of them lie within Tukey's far-out fences, three interquartile ranges
    beyond the quartiles of all effects, so that neither collapses nor a few large gains speak for the rest. `median` is
    that of their effects. `shared` is the mean effect of their middle half (the interquartile mean), taken seed by
    seed: the luck of the baseline on these seeds, and whatever most arms do. `placebo` does nothing, so it has that
    luck alone.
    `correlation` is the mean one between the differences of two mild arms over the seeds, in [-1, 1].

    `shrunk` are the arms in the order of the analysis; empty where there are too few, or where `halves`, the trial on
    halves of the seeds, fails. `halves` is None where there are too few arms or seeds for it.
    """

    arms: int
    left_out: int
    mild_arms: int
    median: float
    shared: Level
    placebo: Level | None
    correlation: float
    shrunk: tuple[Shrunk, ...]
    halves: Halves | None


def sweep_of(analysis: Analysis) -> Sweep | None:
    """What the arms of a study share; None with fewer than `SHARED_FROM` arms that tell, or `MIN_SEEDS` seeds."""
    seeds = max((e.seeds for e in analysis.effects), key=len, default=())
    whole = [e for e in analysis.effects if e.seeds == seeds]
    told = [e for e in whole if e.arm != PLACEBO and any(e.differences)]
    if len(told) < SHARED_FROM or len(seeds) < MIN_SEEDS:
        return None
    d = np.array([e.differences for e in told])
    kept = mild(d)
    shared = middle(d, kept)
    placebo = next((e for e in whole if e.arm == PLACEBO), None)
    up = 1.0 if analysis.higher_is_better else -1.0
    enough = len(told) >= SHRUNK_FROM
    halves = validate(up * d) if enough else None
    return Sweep(
        arms=len(told),
        left_out=sum(bool(e.n) for e in analysis.effects) - len(whole),
        mild_arms=int(kept.sum()),
        median=float(np.median(d[kept].mean(axis=1))),
        shared=_level(shared, analysis.alpha),
        placebo=_level(np.array(placebo.differences), analysis.alpha) if placebo else None,
        correlation=_correlation(d[kept]),
        shrunk=shrink([e.arm for e in told], d) if halves is not None and halves.holds else (),
        halves=halves,
    )


def _level(x: Floats, alpha: float) -> Level:
    mean, low, high = (float(v) for v in t_interval(x, alpha))
    if not np.ptp(x):  # equal values do not say how much they vary
        low = high = math.nan
    return Level(mean, low, high, len(x))


def _correlation(d: Floats) -> float:
    """Mean correlation over all pairs of rows; those that never vary are left out."""
    z = d[np.ptp(d, axis=1) > 0]
    if len(z) < 2:
        return math.nan
    r = np.corrcoef(z)
    return float((r.sum() - len(z)) / (len(z) * (len(z) - 1)))
