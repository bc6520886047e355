"""Looking at the results while seeds are still being added, without inflating false alarms.

Testing at the usual level after every few seeds finds something sooner or later. Either plan a few looks,
each at one stricter nominal level (Pocock 1977), or add seeds without end and stop on an e-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

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
    if not looks or looks[0] < 2 or any(b <= a for a, b in pairwise(looks)):
        raise UserError(f"looks = {list(looks)}: they must increase from at least 2 seeds, such as 5 10 20")
    if tuple(looks) == LOOKS and alpha == ALPHA:
        return LEVEL
    draws = np.random.default_rng(seed).standard_normal((paths, looks[-1]))
    p = []
    for n in looks:
        seen = draws[:, :n]
        t = seen.mean(axis=1) / seen.std(axis=1, ddof=1) * math.sqrt(n)
        p.append(2 * stdtr(n - 1, -np.abs(t)))
    return float(np.quantile(np.min(p, axis=0), alpha))


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
