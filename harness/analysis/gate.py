"""The rule of a gate: which candidates of a whole stream replace a baseline, with few false acceptances over all of it.

A stream is declared with its number of candidates N and the level alpha. Each candidate may spend alpha / N, in shares
of `SHARES` at its looks (`LOOKS` pairs), by the one-sided paired t test at each. So the chance that a stream ever
accepts a candidate that does not help is at most alpha, by the union bound over candidates and looks. That bound holds
whatever the dependence, so candidates may share the baseline's runs. It holds for candidates that somebody chooses
after seeing earlier results, too, as long as a candidate's own runs are new: given the baseline's noise all candidates
without effect have the same chance, and there are at most N of them.

A candidate that is accepted gives its share back (the fallback procedure of Wiens 2003; online in Tian and Ramdas 2021,
1910.04900), and so does one whose runs are those of the baseline, which cannot be accepted: of both, none counts among
the N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr

from harness.analysis.inference import t_interval
from harness.analysis.power import mde

LOOKS = (5, 10, 20)
"""Pairs after which a candidate is looked at."""

SHARES = (0.05, 0.15, 0.8)
"""Of a candidate's level, what each look may spend: most at the end, where it finds most."""

FUTILE = 0.1
"""Two-sided level of the interval that must reach the margin for a candidate to go on. It spends nothing."""

Decision = Literal["accept", "reject", "undecided", "inactive"]


@dataclass(frozen=True)
class Look:
    """One look at a candidate: pairs, mean gain (positive is better) with its 95 % interval, p and its level."""

    n: int
    mean: float
    low: float
    high: float
    p: float
    level: float
    decision: Decision
    why: str


def level_at(look: int, alpha: float, candidates: int) -> float:
    """The level of a look, by its position in `LOOKS`."""
    return alpha / candidates * SHARES[look]


def judge(gains: Sequence[float], look: int, alpha: float, candidates: int, margin: float) -> Look:
    """Decide on a candidate at a look.

    Args:
        gains: candidate minus baseline of each pair, turned so that positive is better; as many as `LOOKS[look]`.
        look: position in `LOOKS`.
        alpha: of the stream.
        candidates: N of the stream.
        margin: smallest gain that matters, in the unit of the gains.
    """
    d = np.asarray(gains, dtype=float)
    n, level = d.size, level_at(look, alpha, candidates)
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    if not sd:  # as the sign test: equal differences are no chance only where there are many
        p = 0.5**n if mean > 0 else 1.0
        low = high = mean
        reach = mean
    else:
        p = float(stdtr(n - 1, -mean / sd * math.sqrt(n)))
        low, high = (float(v) for v in t_interval(d, 0.05)[1:])
        reach = float(t_interval(d, FUTILE)[2])
    if p <= level:
        return Look(n, mean, low, high, p, level, "accept", "")
    if reach < margin:
        return Look(n, mean, low, high, p, level, "reject", f"a gain of {margin:g} is out of reach")
    if look + 1 == len(LOOKS):
        return Look(n, mean, low, high, p, level, "reject", "not shown after the last look")
    return Look(n, mean, low, high, p, level, "undecided", f"goes on to {LOOKS[look + 1]} pairs")


def smallest(sd: float, alpha: float, candidates: int) -> float:
    """The gain that the last look finds with 80 % power, for a standard deviation of paired differences."""
    return mde(sd, LOOKS[-1], 2 * level_at(len(LOOKS) - 1, alpha, candidates))
