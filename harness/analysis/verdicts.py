"""The rules: from one arm's numbers to the kind of its verdict, first match wins. `sentences` puts it into words.

1. Below five judged pairs, or with pairs missing for another reason than divergence: no verdict.
2. Every difference exactly zero and the predictions, or all that foreign runs logged, identical: inactive.
3. Arm and baseline each with one number for all seeds: no verdict, because the metric or the seed does nothing.
4. The corrected p of the test that decides is below alpha: helps or hurts; slightly, where it is equivalent, too.
5. Among many arms, q is below alpha: likely helps or likely hurts.
6. The plain interval excludes zero, or the uncorrected test of an arm that diverged rejects: suggestive.
7. Two one-sided tests, corrected, reject at the margin: equivalent.
8. Otherwise: no detectable difference, with what it could be and what it would take to know.

The t test decides, but for seeds that diverged (Wilcoxon's signed-rank test of all judged pairs), for wildly outlying
ones (the same, if it can reach its corrected level at all), and where all differences are equal (the exact test of
their signs). Arms with diverged or outlying seeds have the prefix `unstable`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness.analysis.types import Effect, VerdictKind

MIN_SEEDS = 5
"""Judged pairs below which there is no verdict."""

MANY = 20
"""Arms from which q and "likely" stand beside the strict verdict: Holm's correction then leaves hardly any power."""

EQUIVALENCE_LEVEL = 0.05
"""Level of the two one-sided tests; they reject exactly when the 90 % interval lies inside the margin."""

OUTLYING = 8.0
"""Distance from the median, in median absolute deviations, beyond which a seed is taken for a divergence."""

NORMAL_QUARTILE = float(ndtri(0.75))
"""Median absolute deviation of a standard normal variable: dividing by it estimates the standard deviation."""

FEW = 300.0
"""Over n squared, what is added to `OUTLYING`: the deviation of a few values is often far too small. With it, less
than 1 in 100 arms with normal differences is called unstable at any n (at n = 5 it would be 1 in 20)."""


@dataclass(frozen=True)
class Setting:
    """What all verdicts of one analysis share.

    `unit` is empty for dimensionless metrics. `margin` is NaN for metrics that it was not declared for, and
    then nothing is called equivalent. `family` is the number of arms whose p values are corrected together. `grain` is
    the smallest difference that two runs can have (one image of the test split), or 0 where it is not known.
    `compared` is what tells two runs apart, as a singular noun. `overlap` is test / training size where pairs are folds
    of one cross-validation, whose training sets overlap, and else 0.
    """

    metric: str
    unit: str
    higher_is_better: bool
    margin: float
    alpha: float
    scope: str
    family: int
    grain: float = 0.0
    compared: str = "prediction"
    overlap: float = 0.0

    @property
    def level(self) -> float:
        """What Bonferroni's correction asks of one arm, and Holm's at most."""
        return self.alpha / max(self.family, 1)


@dataclass(frozen=True)
class Evidence:
    """What the rules need to know of one arm besides its `Effect`.

    `skipped` is the reason why the arm was never run. `n_ok` counts the arm's finished runs. `identical`: every
    pair has the same test predictions, or logged the same where runs are foreign. `constant`: arm and baseline each
    have one number for all seeds. `n_diverged_base` counts seeds that the baseline lost, and `n_outlying` wildly
    outlying differences. `missing` says why other pairs are missing, with counts. `typical` is the Hodges-Lehmann
    estimate of the finished pairs and `direction` the sign of the sum of signed ranks of all judged ones: the size
    and the direction that belong to Wilcoxon's test.
    """

    skipped: str | None = None
    n_ok: int = 0
    identical: bool = False
    constant: bool = False
    n_diverged_base: int = 0
    n_outlying: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    typical: float = math.nan
    direction: float = 0.0

    def instability(self, effect: Effect) -> str:
        """Which seeds diverged or lie far from all others, or an empty string."""
        counts = (
            (effect.n_diverged, "diverged"),
            (self.n_diverged_base, "of the baseline diverged"),
            (self.n_outlying, "outlying"),
        )
        what = ", ".join(f"{k} of {effect.n_planned} {how}" for k, how in counts if k)
        return f"unstable ({what})" if what else ""


def outlying(differences: NDArray[np.float64], margin: float, grain: float = 0.0) -> int:
    """How many differences lie further than `OUTLYING` deviations from their median.

    The deviation is the median absolute one, scaled to estimate a normal standard deviation. Rounding to whole images
    makes it uncertain by half of one, so it counts as half a `grain` at least. Where it is zero and no grain is known,
    because most differences are equal, only those further away than the margin count.
    """
    if not differences.size:
        return 0
    distances = np.abs(differences - np.median(differences))
    mad = max(float(np.median(distances)), grain / 2) / NORMAL_QUARTILE
    limit = (OUTLYING + FEW / differences.size**2) * mad if mad else margin
    return int(np.sum(distances > limit))


def negligible(p_tost: float, alpha: float) -> bool:
    """Whether the corrected two one-sided tests place an effect inside the margin; a look of several is stricter."""
    return p_tost < min(EQUIVALENCE_LEVEL, alpha)


def decide(
    *, mean: float, p: float, q: float, p_tost: float, clear: bool, alpha: float, higher_is_better: bool
) -> VerdictKind:
    """Rules 4 to 8.

    Args:
        mean: whose sign tells the direction.
        p: of the deciding test, corrected for the family.
        q: of the same test; NaN where arms are few.
        p_tost: larger p of the two one-sided tests at the margin, corrected; NaN never counts as equivalent.
        clear: whether the plain interval excludes zero, or the uncorrected test of an arm that diverged rejects.
        alpha: level of `p` and `q`.
        higher_is_better: whether a positive `mean` helps.
    """
    inside = negligible(p_tost, alpha)
    better = (mean > 0) == higher_is_better
    if p < alpha and mean:
        if better:
            return "helps slightly" if inside else "helps"
        return "hurts slightly" if inside else "hurts"
    if q < alpha and mean:
        return "likely helps" if better else "likely hurts"
    if clear:
        return "suggestive"
    return "equivalent" if inside else "undecided"


def kind_of(effect: Effect, evidence: Evidence, setting: Setting) -> VerdictKind:
    """All rules, for one arm.

    Args:
        effect: the numbers, corrected for the family. Its own `verdict` is not read.
        evidence: what else is known of the arm.
        setting: what all verdicts of the analysis share.
    """
    if evidence.skipped is not None:
        return "skipped"
    if effect.n_failed and not evidence.n_ok and not effect.n_diverged:
        return "failed"
    if effect.n_judged < MIN_SEEDS or evidence.missing:
        return "no verdict"
    if evidence.identical and effect.mean == 0 and effect.sd == 0 and not evidence.instability(effect):
        return "inactive"
    if evidence.constant:
        return "no verdict"
    return decide(
        mean=evidence.direction if effect.test == "signed-rank" else effect.mean,
        p=effect.p_holm,
        q=effect.q,
        p_tost=effect.p_tost_holm,
        # An arm that diverged may have no interval, or one of the few pairs that finished.
        clear=effect.low > 0 or effect.high < 0 or (any(effect.lost) and effect.p_wilcoxon < setting.alpha),
        alpha=setting.alpha,
        higher_is_better=setting.higher_is_better,
    )
