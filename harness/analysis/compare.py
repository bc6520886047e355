"""The same arm in several studies: other machines, versions, networks or data.

Studies that trained the same blocks (the same images held out by the same seeds, see `harness.analysis.blocks`) are
compared block by block, which is right however much or little the blocks have in common. Others are independent
samples. Studies that share their very runs say one thing twice, and are neither subtracted nor averaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import fdtrc, stdtr, stdtrit

from harness.analysis.inference import deviation, t_interval, t_test
from harness.analysis.types import Analysis, Effect
from harness.errors import UserError

Signs = Literal["agree", "differ", "flip"]

FEWEST_AVERAGED = 3
"""Studies from which a mean effect is told: two have one degree of freedom, and an interval that holds everything."""


@dataclass(frozen=True)
class Difference:
    """Effect in `second` minus effect in `first`, with its interval at level 1 - alpha and its p.

    `pairs` counts the blocks that both trained, over which the t test is paired; the mean is then that of these blocks
    alone. It is 0 where Welch's t test takes all pairs of both studies as two independent samples.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float
    p: float
    pairs: int


@dataclass(frozen=True)
class Heterogeneity:
    """The test that an arm has the same effect in all of its studies.

    Of two studies, `p` is that of their difference. Of more, it is that of Welch's analysis of variance where no two
    share blocks, with `f` and its degrees of `freedom`; else the smallest p of all pairs of studies times their number
    (Bonferroni), which holds however the studies are correlated, and `f` and `freedom` are NaN.
    """

    p: float
    f: float = math.nan
    freedom: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class MeanEffect:
    """The mean of the true effects of the workloads that `k` independent studies are a sample of.

    `low` and `high` bound it at level 1 - alpha. `between` is the standard deviation of the true effects, in their
    unit. See `mean_effect`.
    """

    mean: float
    low: float
    high: float
    between: float
    k: int


@dataclass(frozen=True)
class ArmComparison:
    """One arm in every study that has it.

    `signs` is "flip" only where two intervals exclude zero on opposite sides, "differ" where the means merely do.
    `shared` names pairs of studies that hold the same runs, and `blocks` those that trained the same blocks.

    `differences` are empty where effects are of different metrics, and lack pairs of shared runs. `heterogeneity` and
    `overall` are None there, and where a standard error is zero or unknown; `overall` also where blocks are shared,
    because what those have in common is in no spread between studies, and from fewer than `FEWEST_AVERAGED` studies.
    """

    arm: str
    effects: tuple[tuple[str, Effect], ...]
    shared: tuple[tuple[str, str], ...]
    blocks: tuple[tuple[str, str], ...]
    differences: tuple[Difference, ...]
    heterogeneity: Heterogeneity | None
    overall: MeanEffect | None
    signs: Signs

    @property
    def same_verdict(self) -> bool:
        """Whether all studies come to the same kind of verdict."""
        return len({e.verdict.kind for _, e in self.effects}) == 1


@dataclass(frozen=True)
class Comparison:
    """All arms that at least two studies have. `single` lists (arm, study) of the others.

    `metrics` and `units` are those of the studies, in their order; `alpha` is the smallest of the studies.
    """

    studies: tuple[str, ...]
    metrics: tuple[str, ...]
    units: tuple[str, ...]
    alpha: float
    arms: tuple[ArmComparison, ...]
    single: tuple[tuple[str, str], ...]


def compare(analyses: Mapping[str, Analysis]) -> Comparison:
    """Put the effects of several studies side by side, arm by arm.

    Args:
        analyses: by name of the study, in the order in which they are shown; all of one metric, or nothing
            is subtracted or averaged.

    Raises:
        UserError: fewer than two studies, or no arm that two of them have.
    """
    if len(analyses) < 2:
        raise UserError(f"comparing takes at least two studies, and this is {len(analyses)}: name another one")
    found: dict[str, list[tuple[str, Effect]]] = {}
    for study, analysis in analyses.items():
        for effect in analysis.effects:
            found.setdefault(effect.arm, []).append((study, effect))
    if all(len(effects) < 2 for effects in found.values()):
        have = "; ".join(f"{s} has {', '.join(e.arm for e in a.effects) or 'none'}" for s, a in analyses.items())
        raise UserError(f"the studies have no arm in common ({have}): choose studies of the same tricks")
    alpha = min(a.alpha for a in analyses.values())
    alike = len({(a.metric, a.unit) for a in analyses.values()}) == 1
    blocks = {study: a.blocks for study, a in analyses.items()}
    return Comparison(
        studies=tuple(analyses),
        metrics=tuple(a.metric for a in analyses.values()),
        units=tuple(a.unit for a in analyses.values()),
        alpha=alpha,
        arms=tuple(_arm(arm, effects, blocks, alpha, alike) for arm, effects in found.items() if len(effects) > 1),
        single=tuple((arm, effects[0][0]) for arm, effects in found.items() if len(effects) == 1),
    )


def _arm(
    arm: str, effects: Sequence[tuple[str, Effect]], blocks: Mapping[str, str], alpha: float, alike: bool
) -> ArmComparison:
    pairs = list(combinations(effects, 2))
    shared = [(a, b) for (a, x), (b, y) in pairs if _same_runs(x, y)]
    paired = {
        (a, b): d
        for (a, x), (b, y) in pairs
        if blocks[a] == blocks[b] != "" and (d := _block_by_block(x, y)) is not None
    }
    differences = [
        _difference(a, x, b, y, paired.get((a, b)), alpha)
        for (a, x), (b, y) in pairs
        if alike and min(x.n, y.n) > 1 and not any(x.lost + y.lost) and (a, b) not in shared
    ]
    each = [e for _, e in effects]
    known = alike and not shared and all(e.n > 1 and e.sd > 0 and not any(e.lost) for e in each)
    return ArmComparison(
        arm=arm,
        effects=tuple(effects),
        shared=tuple(shared),
        blocks=tuple(pair for pair in paired if pair not in shared),
        differences=tuple(differences),
        heterogeneity=_heterogeneity(each, differences) if known else None,
        overall=mean_effect(each, alpha) if known and not paired and len(each) >= FEWEST_AVERAGED else None,
        signs=_signs(each),
    )


def _same_runs(x: Effect, y: Effect) -> bool:
    """Whether all seeds that both have gave the same values, which other machines or versions hardly do."""
    first = dict(zip(x.seeds, zip(x.base, x.treated, strict=True), strict=True))
    second = dict(zip(y.seeds, zip(y.base, y.treated, strict=True), strict=True))
    common = first.keys() & second.keys()
    return bool(common) and all(first[s] == second[s] for s in common)


def _signs(effects: Sequence[Effect]) -> Signs:
    if any(e.low > 0 for e in effects) and any(e.high < 0 for e in effects):
        return "flip"
    if any(e.mean > 0 for e in effects) and any(e.mean < 0 for e in effects):
        return "differ"
    return "agree"


def _sample(effect: Effect) -> NDArray[np.float64]:
    return np.round(effect.differences, 10)  # equal ones stay equal


def _block_by_block(x: Effect, y: Effect) -> NDArray[np.float64] | None:
    """Effect `y` minus effect `x` in each block of both; None where that is fewer than half of the smaller study's."""
    first, second = (dict(zip(e.seeds, _sample(e), strict=True)) for e in (x, y))
    common = [seed for seed in first if seed in second]
    # A few common blocks of many are no reason to throw away all the others.
    if len(common) < 2 or 2 * len(common) < min(x.n, y.n):
        return None
    return np.round([second[s] - first[s] for s in common], 10)


def _difference(a: str, x: Effect, b: str, y: Effect, pairs: NDArray[np.float64] | None, alpha: float) -> Difference:
    if pairs is None:
        return Difference(a, b, *welch(_sample(x), _sample(y), alpha), pairs=0)
    mean, low, high = (float(v) for v in t_interval(pairs, alpha))
    return Difference(a, b, mean, low, high, float(t_test(pairs)), pairs=len(pairs))


def welch(x: ArrayLike, y: ArrayLike, alpha: float) -> tuple[float, float, float, float]:
    """Mean of `y` minus mean of `x`: (mean, low, high, p) of Welch's t for independent samples of at least two values.

    The interval has level 1 - `alpha`. Where neither sample varies, it is the difference itself, and p is that of the
    exact permutation test.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    mean = float(y.mean() - x.mean())
    a, b = float(deviation(x)) ** 2 / x.size, float(deviation(y)) ** 2 / y.size
    if a + b == 0:
        return mean, mean, mean, 2 / math.comb(x.size + y.size, x.size) if mean else 1.0
    error, freedom = math.sqrt(a + b), (a + b) ** 2 / (a**2 / (x.size - 1) + b**2 / (y.size - 1))
    half = -float(stdtrit(freedom, alpha / 2)) * error
    return mean, mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error))


def _heterogeneity(effects: Sequence[Effect], differences: Sequence[Difference]) -> Heterogeneity | None:
    """Of effects whose standard errors are known, and the differences of all pairs of them."""
    if any(d.low == d.high for d in differences):
        return None
    if len(effects) > 2 and not any(d.pairs for d in differences):
        return welch_anova(effects)
    return Heterogeneity(min(1.0, len(differences) * min(d.p for d in differences)))


def welch_anova(effects: Sequence[Effect]) -> Heterogeneity:
    """Welch's analysis of variance (1951, Biometrika 38:330) of independent effects that each vary over their pairs.

    Of 2 to 5 studies with 5 or 10 pairs each it rejects equal effects 4 to 6.5 % of the time at the 5 % level.
    Cochran's Q, which takes the standard errors as known, does so 8 to 19 % of the time with 5 pairs.
    """
    # Not statsmodels' anova_oneway, which takes a second to import.
    k, n = len(effects), np.array([e.n for e in effects])
    mean, weight = np.array([e.mean for e in effects]), n / np.array([e.sd**2 for e in effects])
    share = weight / weight.sum()
    between = float(weight @ (mean - share @ mean) ** 2) / (k - 1)
    spread = float(((1 - share) ** 2 / (n - 1)).sum())
    f, freedom = between / (1 + 2 * (k - 2) / (k**2 - 1) * spread), (k - 1, (k**2 - 1) / (3 * spread))
    return Heterogeneity(float(fdtrc(*freedom, f)), f, freedom)


def mean_effect(effects: Sequence[Effect], alpha: float) -> MeanEffect:
    """The mean effect of at least two independent studies: the random-effects interval of Hartung and Knapp.

    (2001, Statistics in Medicine 20:3875), with k - 1 degrees of freedom and equal weights, so that it is the t
    interval of the studies' means. That keeps its level whatever their standard errors are (Ibragimov and Mueller 2010,
    Journal of Business and Economic Statistics 28:453): it covers 95 to 97 % for 2 to 8 studies of 5 to 20 pairs. With
    weights that are estimated from so few pairs (by DerSimonian and Laird's or Paule and Mandel's variance between
    studies) it covers 91 to 95 %. Two studies have one degree of freedom, and an interval of 12.7 standard errors to
    either side.

    The variance between the true effects is that of the means less their mean squared standard error, and at least 0
    (Hedges and Olkin 1985, chapter 9).
    """
    means = np.array([e.mean for e in effects])
    mean, low, high = (float(v) for v in t_interval(means, alpha))
    noise = float(np.mean([e.sd**2 / e.n for e in effects]))
    return MeanEffect(mean, low, high, math.sqrt(max(0.0, float(means.var(ddof=1)) - noise)), len(effects))
