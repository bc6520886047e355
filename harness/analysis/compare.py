"""The same arm in several studies: other machines, versions, networks or data.

Studies are taken as independent. Two that trained the same blocks (one seed, one split) are positively correlated:
the interval of their difference is then too wide and that of their pooled effect too narrow. Studies that
share their very runs say one thing twice, and are neither subtracted nor pooled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtri, stdtr, stdtrit

from harness.analysis.types import Analysis, Effect
from harness.errors import UserError

Signs = Literal["agree", "differ", "flip"]


@dataclass(frozen=True)
class Difference:
    """Effect in `second` minus effect in `first`, with Welch's interval at level 1 - alpha and its p."""

    first: str
    second: str
    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Pooled:
    """A weighted mean effect with its normal interval at level 1 - alpha."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pooling:
    """Effects of k studies together, weighted by their standard errors.

    `q` is Cochran's statistic, with k - 1 degrees of freedom and `p`; `i2` in [0, 1] is the share of the
    variation that is more than sampling noise (Higgins and Thompson 2002); `tau2` is the variance of the true
    effects. `fixed` assumes one true effect, `random` a normal population of them (DerSimonian and Laird
    1986). The intervals take the standard errors as known, which from fewer than ten seeds they hardly
    are, and two or three studies hardly estimate `tau2`.
    """

    q: float
    p: float
    i2: float
    tau2: float
    fixed: Pooled
    random: Pooled


@dataclass(frozen=True)
class ArmComparison:
    """One arm in every study that has it.

    `signs` is "flip" only where two intervals exclude zero on opposite sides, "differ" where the means
    merely do. `shared` names pairs of studies that hold the same runs. `differences` and `pooling` are empty
    where effects are of different metrics; `pooling` also where runs are shared or a standard error is
    zero or unknown.
    """

    arm: str
    effects: tuple[tuple[str, Effect], ...]
    shared: tuple[tuple[str, str], ...]
    differences: tuple[Difference, ...]
    pooling: Pooling | None
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
            is subtracted or pooled.

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
    return Comparison(
        studies=tuple(analyses),
        metrics=tuple(a.metric for a in analyses.values()),
        units=tuple(a.unit for a in analyses.values()),
        alpha=alpha,
        arms=tuple(_arm(arm, effects, alpha, alike) for arm, effects in found.items() if len(effects) > 1),
        single=tuple((arm, effects[0][0]) for arm, effects in found.items() if len(effects) == 1),
    )


def _arm(arm: str, effects: Sequence[tuple[str, Effect]], alpha: float, alike: bool) -> ArmComparison:
    pairs = list(combinations(effects, 2))
    shared = [(a, b) for (a, x), (b, y) in pairs if _same_runs(x, y)]
    differences = [
        Difference(a, b, *welch(x, y, alpha))
        for (a, x), (b, y) in pairs
        if alike and min(x.n, y.n) > 1 and (a, b) not in shared
    ]
    return ArmComparison(
        arm=arm,
        effects=tuple(effects),
        shared=tuple(shared),
        differences=tuple(differences),
        pooling=pool([e for _, e in effects], alpha) if alike and not shared else None,
        signs=_signs([e for _, e in effects]),
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


def welch(x: Effect, y: Effect, alpha: float) -> tuple[float, float, float, float]:
    """Effect `y` minus effect `x`: (mean, low, high, p) of Welch's t, each with at least two pairs.

    The interval has level 1 - `alpha`. Where neither effect varies, it is the difference itself, and p 0 or 1.
    """
    mean, a, b = y.mean - x.mean, x.sd**2 / x.n, y.sd**2 / y.n
    if a + b == 0:
        return mean, mean, mean, float(mean == 0)
    error, freedom = math.sqrt(a + b), (a + b) ** 2 / (a**2 / (x.n - 1) + b**2 / (y.n - 1))
    half = -float(stdtrit(freedom, alpha / 2)) * error
    return mean, mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error))


def pool(effects: Sequence[Effect], alpha: float) -> Pooling | None:
    """All effects together, or None for fewer than two or where a standard error is zero or unknown."""
    means = np.array([e.mean for e in effects])
    variances = np.array([e.sd**2 / e.n if e.n > 1 else math.nan for e in effects])
    if len(effects) < 2 or not (np.isfinite(variances) & (variances > 0)).all():
        return None
    # Not statsmodels' combine_effects: it lets tau2 become negative, which narrows the random-effects interval.
    weights, freedom = 1 / variances, len(effects) - 1
    q = float(weights @ (means - weights @ means / weights.sum()) ** 2)
    tau2 = max(0.0, (q - freedom) / float(weights.sum() - weights @ weights / weights.sum()))
    return Pooling(
        q=q,
        p=float(chdtrc(freedom, q)),
        i2=max(0.0, 1 - freedom / q) if q else 0.0,
        tau2=tau2,
        fixed=_weighted(means, weights, alpha),
        random=_weighted(means, 1 / (variances + tau2), alpha),
    )


def _weighted(means: NDArray[np.float64], weights: NDArray[np.float64], alpha: float) -> Pooled:
    mean = float(weights @ means / weights.sum())
    half = -float(ndtri(alpha / 2)) / math.sqrt(weights.sum())
    return Pooled(mean, mean - half, mean + half)


def rows(comparison: Comparison) -> list[dict[str, str]]:
    """The table, as text: for each arm a row for each study, then what they say together.

    The keys are the columns: arm, study, n, effect, verdict, difference (from the arm's first study).
    """
    units = dict(zip(comparison.studies, comparison.units, strict=True))
    table = []
    for arm in comparison.arms:
        first = arm.effects[0][0]
        differences = {d.second: d for d in arm.differences if d.first == first}
        for study, e in arm.effects:
            d = differences.get(study)
            table.append(
                _row(
                    arm.arm,
                    study,
                    n=str(e.n),
                    effect=f"{_estimate(e.mean, e.low, e.high)} {units[study]}".rstrip(),
                    verdict=e.verdict.label,
                    difference=f"{_estimate(d.mean, d.low, d.high)}, p = {d.p:.2g}" if d else "",
                )
            )
        if arm.pooling:
            both = (("fixed effect", arm.pooling.fixed), ("random effects", arm.pooling.random))
            for name, p in both:
                effect = f"{_estimate(p.mean, p.low, p.high)} {units[first]}".rstrip()
                table.append(_row(arm.arm, name, effect=effect))
        table.append(_row(arm.arm, "together", verdict=_together(arm)))
    return table


def _row(
    arm: str, study: str, n: str = "", effect: str = "", verdict: str = "", difference: str = ""
) -> dict[str, str]:
    return {"arm": arm, "study": study, "n": n, "effect": effect, "verdict": verdict, "difference": difference}


def _estimate(mean: float, low: float, high: float) -> str:
    return f"{mean:+z.3g} [{low:z.3g}, {high:z.3g}]"


_SIGNS: dict[Signs, str] = {
    "agree": "signs agree",
    "differ": "signs differ, but the intervals leave room for either",
    "flip": "the sign flips: intervals exclude zero on opposite sides",
}


def _together(arm: ArmComparison) -> str:
    parts = [_SIGNS[arm.signs], "same verdict" if arm.same_verdict else "verdicts differ"]
    if arm.pooling:
        p = arm.pooling
        parts.append(f"heterogeneity I² = {p.i2:.0%} (Q = {p.q:.3g}, p = {p.p:.2g}, {len(arm.effects)} studies)")
    parts += [f"{a} and {b} share their runs, so they are one piece of evidence" for a, b in arm.shared]
    return "; ".join(parts)
