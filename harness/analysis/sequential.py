"""Looking at the results while seeds are still being added, without inflating false alarms.

Testing at the usual level after every few seeds finds something sooner or later. Either plan a few looks,
each at one stricter nominal level (Pocock 1977), or add seeds without end and stop on an e-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from harness.analysis.verdicts import MIN_SEEDS
from harness.errors import UserError

LOOKS = (5, 10, 20)
"""Numbers of seeds after which a sequential study is looked at."""

ALPHA = 0.05
LEVEL = 0.0195
"""Two-sided level of the paired t test at each of `LOOKS` that keeps `ALPHA` overall, from a larger simulation."""


def looks_until(most: int) -> tuple[int, ...]:
    """5, 10, 20, 40, ... seeds, the last look at `most`, which is at least 5."""
    looks = []
    n = LOOKS[0]
    while n < most:
        looks.append(n)
        n *= 2
    return (*looks, most)


def _check(looks: Sequence[int]) -> None:
    if not looks or looks[0] < 2 or any(b <= a for a, b in pairwise(looks)):
        raise UserError(f"looks = {list(looks)}: they must increase from at least 2 seeds, such as 5 10 20")


def calibrate(looks: Sequence[int] = LOOKS, alpha: float = 0.05, paths: int = 20_000, seed: int = 0) -> float:
    """The nominal level, equal at every look, with which all looks together reject at rate `alpha`.

    Simulates paired t tests on normal differences with no effect.

    Args:
        looks: numbers of pairs at which the test is done, increasing, each at least 2.
        alpha: overall two-sided error rate.
        paths: simulated studies; the standard error of the rate is sqrt(alpha (1 - alpha) / paths).
        seed: of the simulation.

    Raises:
        UserError: `looks` is empty, does not increase or starts below 2.
    """
    _check(looks)
    if tuple(looks) == LOOKS and alpha == ALPHA:
        return LEVEL
    draws = np.random.default_rng(seed).standard_normal((paths, looks[-1]))
    p = []
    for n in looks:
        seen = draws[:, :n]
        t = seen.mean(axis=1) / seen.std(axis=1, ddof=1) * math.sqrt(n)
        p.append(2 * stdtr(n - 1, -np.abs(t)))
    return float(np.quantile(np.min(p, axis=0), alpha))


@lru_cache(maxsize=64)
def false_alarms(looks: tuple[int, ...], alpha: float = ALPHA, paths: int = 100_000, seed: int = 0) -> float:
    """The chance that an arm without effect is called one at some look, each of which is tested at level `alpha`.

    Simulates paired t tests on normal differences (Armitage, McPherson and Rowe 1969). Of what each look adds, the sum
    and the sum of squares are drawn, so that the time does not depend on the number of seeds.

    Args:
        looks: numbers of pairs at which the test is done, increasing, each at least 2.
        alpha: two-sided level of each.
        paths: simulated studies; the standard error of the chance c is sqrt(c (1 - c) / paths).
        seed: of the simulation.

    Raises:
        UserError: as in `calibrate`.
    """
    _check(looks)
    draw = np.random.default_rng(seed)
    total, squares, alarm = np.zeros(paths), np.zeros(paths), np.zeros(paths, dtype=bool)
    for before, n in pairwise((0, *looks)):
        added = draw.standard_normal(paths)
        total += math.sqrt(n - before) * added
        # Within a block of m draws the sum of squares about their mean is chi-squared with m - 1 degrees of freedom.
        squares += added**2 + 2 * draw.standard_gamma((n - before - 1) / 2, paths)
        error = np.sqrt((squares - total**2 / n) / (n - 1) / n)
        alarm |= 2 * stdtr(n - 1, -np.abs(total / n / error)) < alpha
    return float(alarm.mean())


def looked(looks: Sequence[int], alpha: float, level: float | None, study: str) -> str:
    """How often a study was looked at, and what that does to its false alarms; empty where it was once, unplanned.

    Args:
        looks: numbers of seeds at which it was judged; there is no verdict, and so no alarm, below `MIN_SEEDS`.
        alpha: level of each look.
        level: as in `harness.store.schema.Manifest.level`.
        study: its name.
    """
    judged = tuple(n for n in looks if n >= MIN_SEEDS)
    if not judged or (level is None and len(judged) < 2):
        return ""
    numbers = f"{', '.join(map(str, judged[:-1]))} and {judged[-1]}" if judged[1:] else f"{judged[0]}"
    times = f"{len(judged)} times" if judged[1:] else "once"
    said = f"This study was looked at {times}, with {numbers} seeds"
    if level is not None:
        return (
            f"{said}, as planned: each is tested at level {alpha:.4f}, which keeps the declared level of {level:g} "
            "over all planned looks."
        )
    return (
        f"{said}: with each look tested at {alpha:g}, an arm without effect raises a false alarm in "
        f"{100 * false_alarms(judged, alpha):.2g} % of such studies; fresh seeds settle it (harness replicate {study})."
    )


def e_value(t: ArrayLike, n: ArrayLike, g: float = 1.0) -> NDArray[np.float64]:
    """Evidence against a zero mean difference that stays valid whenever one stops.

    The Bayes factor of the t statistic with a normal prior of variance `g` on the standardised effect and
    the right Haar prior on the scale. With no effect, the chance that it ever reaches 1 / alpha is at
    most alpha.

    Args:
        t: paired t statistic, any shape.
        n: number of pairs, at least 2, broadcast against `t`.
        g: prior variance of the effect in units of the paired standard deviation, positive.
    """
    t2, n = np.square(np.asarray(t, dtype=float)), np.asarray(n, dtype=float)
    v, spread = n - 1, 1 + n * g
    ratio = (1 + t2 / v) / (1 + t2 / (v * spread))
    return np.asarray(spread**-0.5 * ratio ** ((v + 1) / 2))
