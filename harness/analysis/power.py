"""What n paired seeds can find, from the noncentral distribution of the squared t.

All sizes are in the unit of `sd`, the standard deviation over seeds of (arm - baseline).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize
from scipy.special import ncfdtr, stdtrit

N_MAX = 1000
"""More seeds than this are not worth asking for."""


def achieved_power(effect: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """The chance that a two-sided paired t test at level `alpha` rejects with `n` pairs.

    Returns:
        A probability; NaN below two pairs, for an unknown effect or without a finite `sd`.
    """
    if n < 2 or math.isnan(effect) or not math.isfinite(sd):
        return math.nan
    if effect == 0:
        return alpha
    if sd == 0:
        return 1.0
    # t squared is F with 1 and n - 1 degrees of freedom. scipy's noncentral t returns NaN far in its tails.
    shift, bound = n * (effect / sd) ** 2, float(stdtrit(n - 1, alpha / 2)) ** 2
    missed = float(ncfdtr(1, n - 1, shift, bound))
    # So far in the tail that the chance of a miss underflows, scipy gives NaN.
    return 1.0 if math.isnan(missed) else 1 - missed


def mde(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true effect that a two-sided paired t test finds with probability `power`.

    Args:
        sd: standard deviation of the paired differences.
        n: number of pairs.
        alpha: level of the test; alpha / m for m arms bounds what Holm's correction needs.
        power: wanted probability, above `alpha`.

    Returns:
        The effect in the unit of `sd`; NaN below two pairs or without a finite `sd`.
    """
    if n < 2 or not math.isfinite(sd):
        return math.nan
    return sd * _standardised(n, alpha, power)


@lru_cache(maxsize=1024)
def _standardised(n: int, alpha: float, power: float) -> float:
    """`mde` where the deviation is one."""
    highest = 2.0
    while achieved_power(highest, 1.0, n, alpha) < power:
        highest *= 2
    return float(optimize.brentq(lambda dz: achieved_power(dz, 1.0, n, alpha) - power, 0.0, highest))


def seeds_needed(effect: float, sd: float, alpha: float = 0.05, power: float = 0.8, n_max: int = N_MAX) -> int | None:
    """The fewest pairs with which a two-sided paired t test finds `effect` with probability `power`.

    Returns:
        A number of pairs of at least 2, or None when `n_max` are too few or `sd` or `effect` is not finite.
    """
    if not achieved_power(effect, sd, n_max, alpha) >= power:  # also where it is NaN
        return None
    low, high = 1, n_max  # the power at `high` is enough, at `low` it is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if achieved_power(effect, sd, middle, alpha) >= power else (middle, high)
    return high


def pooled_sd(samples: Iterable[ArrayLike]) -> float:
    """The common standard deviation of several samples, weighted by their degrees of freedom.

    Args:
        samples: paired differences of each arm, arrays of shape (n,) whose means may differ.

    Returns:
        NaN when no sample has two values.
    """
    arrays = [np.asarray(s, dtype=float) for s in samples]
    freedom = sum(a.size - 1 for a in arrays if a.size > 1)
    if not freedom:
        return math.nan
    return math.sqrt(sum(float(a.var(ddof=1)) * (a.size - 1) for a in arrays if a.size > 1) / freedom)
