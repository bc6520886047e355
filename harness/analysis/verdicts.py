"""The wording rules: from one arm's numbers to a verdict, first match wins.

1. Below five pairs, or with pairs missing for another reason than divergence: no verdict.
2. Every difference exactly zero and the predictions identical: inactive.
3. A diverged or wildly outlying seed: the verdict is prefixed `unstable` and the Wilcoxon test decides.
4. The test rejects and the 90 % interval lies inside the margin: helps or hurts slightly.
5. The test rejects: helps or hurts.
6. Two one-sided tests reject at the margin: equivalent.
7. Otherwise: no detectable difference, with what it could be and what it would take to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from harness.analysis.power import N_MAX
from harness.analysis.types import Effect, Verdict, VerdictKind

MIN_SEEDS = 5
"""Complete pairs below which there is no verdict."""

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
    then nothing is called equivalent. `family` is the number of arms whose p values are corrected together.
    """

    metric: str
    unit: str
    higher_is_better: bool
    margin: float
    alpha: float
    scope: str
    family: int


@dataclass(frozen=True)
class Evidence:
    """What the rules need to know of one arm besides its `Effect`.

    `skipped` is the reason why the arm was never run. `n_ok` counts the arm's finished runs. `identical`:
    every pair has the same test predictions. `n_diverged_base` counts seeds that the baseline lost, and
    `n_outlying` wildly outlying differences. `missing` says why other pairs are missing, with counts.
    `typical` is the Hodges-Lehmann estimate and `direction` the sign of the sum of signed ranks: the size
    and the direction that belong to the Wilcoxon test.
    """

    skipped: str | None = None
    n_ok: int = 0
    identical: bool = False
    n_diverged_base: int = 0
    n_outlying: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    typical: float = math.nan
    direction: float = 0.0

    def instability(self, effect: Effect) -> str:
        """Why the Wilcoxon test decides instead of the t test, or an empty string."""
        counts = (
            (effect.n_diverged, "diverged"),
            (self.n_diverged_base, "of the baseline diverged"),
            (self.n_outlying, "outlying"),
        )
        what = ", ".join(f"{k} of {effect.n_planned} {how}" for k, how in counts if k)
        return f"unstable ({what})" if what else ""


def outlying(differences: NDArray[np.float64], margin: float) -> int:
    """How many differences lie further than `OUTLYING` deviations from their median.

    The deviation is the median absolute one, scaled to estimate a normal standard deviation. Where it is
    zero, because most differences are equal, only those further away than the margin count.
    """
    if not differences.size:
        return 0
    distances = np.abs(differences - np.median(differences))
    mad = float(np.median(distances)) / NORMAL_QUARTILE
    limit = (OUTLYING + FEW / differences.size**2) * mad if mad else margin
    return int(np.sum(distances > limit))


def decide(*, mean: float, p: float, p_tost: float, alpha: float, higher_is_better: bool) -> VerdictKind:
    """Rules 4 to 7.

    Args:
        mean: whose sign tells the direction.
        p: of the deciding test, corrected for the family.
        p_tost: larger p of the two one-sided tests at the margin; NaN never counts as equivalent.
        alpha: level of `p`.
        higher_is_better: whether a positive `mean` helps.
    """
    inside = p_tost < min(EQUIVALENCE_LEVEL, alpha)  # a look of a sequential study is stricter
    if p < alpha and mean:
        if (mean > 0) == higher_is_better:
            return "helps slightly" if inside else "helps"
        return "hurts slightly" if inside else "hurts"
    return "equivalent" if inside else "undecided"


def judge(effect: Effect, evidence: Evidence, setting: Setting) -> Verdict:
    """The verdict on one arm in words.

    Args:
        effect: the numbers; `p_holm` is that of the deciding test. Its own `verdict` is not read.
        evidence: what else is known of the arm.
        setting: what all verdicts of the analysis share.
    """
    reasons = f": {'; '.join(effect.reasons)}" if effect.reasons else ""
    if evidence.skipped is not None:
        return Verdict("skipped", "skipped", f"{effect.arm} was skipped: {evidence.skipped}.")
    if effect.n_failed and not evidence.n_ok:
        return Verdict("failed", "failed", f"{effect.arm} finished no run on {setting.scope}{reasons}.")
    kind, label, sentence = _words(effect, evidence, setting)
    prefix = evidence.instability(effect)
    if prefix:
        label, sentence = f"{prefix}: {label}", f"{prefix}: {sentence}"
    return Verdict(kind, label, sentence, unstable=bool(prefix))


def _words(effect: Effect, evidence: Evidence, setting: Setting) -> tuple[VerdictKind, str, str]:
    """Kind, label and sentence, without the prefix of unstable arms."""
    arm, n, scope = effect.arm, effect.n, setting.scope
    unit = "pt" if setting.unit == "points" else setting.unit
    margin = f"±{setting.margin:g} {setting.unit}".rstrip()
    short_margin = f"±{setting.margin:g} {unit}".rstrip()
    found = _found(effect, evidence, setting)
    if n < MIN_SEEDS or evidence.missing:
        missing = ", ".join(f"{k} {why}" for why, k in evidence.missing.items())
        lost = f"{sum(evidence.missing.values())} of {effect.n_planned} seeds missing"
        label = f"need {MIN_SEEDS}" if n < MIN_SEEDS else lost
        detail = f"{MIN_SEEDS} needed" + (f"; {lost}: {missing}" if missing else "")
        so_far = f"; so far {found}" if n else ""
        return (
            "no verdict",
            f"no verdict (n={n}; {label})",
            f"no verdict on {arm} on {scope} from {_seeds(n)} ({detail}){so_far}.",
        )
    unstable = evidence.instability(effect)
    if not unstable and evidence.identical and effect.mean == 0 and effect.sd == 0:
        return (
            "inactive",
            "inactive - changed nothing",
            f"{arm} is inactive on {scope}: it changed no prediction in any of {_seeds(n)} ({found}).",
        )
    kind = decide(
        mean=evidence.direction if unstable else effect.mean,
        p=effect.p_holm,
        # Runs that diverged are no part of the mean: equivalence of the others is not equivalence.
        p_tost=math.nan if effect.n_diverged or evidence.n_diverged_base else effect.p_tost,
        alpha=setting.alpha,
        higher_is_better=setting.higher_is_better,
    )
    p = f"{'Wilcoxon ' if unstable else ''}p {_p(effect.p_holm)}"
    if setting.family > 1:
        p += f" after Holm's correction for {setting.family} arms"
    if kind in ("helps", "hurts", "helps slightly", "hurts slightly"):
        better = kind.startswith("helps")
        agreeing = effect.wins if better else n - effect.wins - effect.ties
        count = f"{'better' if better else 'worse'} in {agreeing} of {_seeds(n)}"
        if kind.endswith("slightly"):
            label = f"{kind}, negligible (within {short_margin})"
            small = f", negligibly (within {margin})"
        else:
            size = f"{_signed(evidence.typical if unstable else effect.mean, setting)} {unit}".rstrip()
            size += "" if unstable else f" {_interval(effect, setting)}"  # the interval is that of the mean
            label, small = f"{kind} {size}, {agreeing}/{n} seeds", ""
        return kind, label, f"{arm} {kind} on {scope}{small}: {found}, {count}, {p}."
    if kind == "equivalent":
        return (
            kind,
            f"equivalent within {short_margin}",
            f"{arm} is equivalent to the baseline within {margin} on {scope}: {found} over {_seeds(n)}, "
            f"equivalence p {_p(effect.p_tost)}.",
        )
    mde = f"{effect.mde:.2g} {unit}".rstrip()
    more = ""
    if effect.more_seeds is not None:
        more = f"about {effect.more_seeds} more seeds for {short_margin}"
    elif effect.mde > setting.margin:
        more = f"more than {N_MAX} seeds for {short_margin}"
    could = f"could be {_signed(effect.low, setting)} to {_signed(effect.high, setting)}"
    return (
        kind,
        f"no detectable difference ({'; '.join(filter(None, (could, f'MDE {mde}', more)))})",
        f"{arm} shows no detectable difference on {scope}: {found} over {_seeds(n)}, {p}; with 80 % power "
        f"{_seeds(n)} find effects from {mde}" + (f"; it takes {more}." if more else "."),
    )


def _found(effect: Effect, evidence: Evidence, setting: Setting) -> str:
    """The effect with its interval, such as "+1.35 points [0.33, 2.37]"."""
    name = setting.unit if setting.metric == "test_accuracy" else f"{setting.unit} of {setting.metric}"
    name = name.removeprefix(" of ")
    mean = f"{_signed(effect.mean, setting)} {name}"
    if effect.n < 2:
        return mean
    mean = f"{mean} {_interval(effect, setting)}"
    if evidence.instability(effect):
        return f"typically {_signed(evidence.typical, setting)} (mean {mean}, finished pairs only)"
    return mean


def _signed(value: float, setting: Setting) -> str:
    return f"{value:+z.2f}" if setting.unit == "points" else f"{value:+z.3g}"


def _interval(effect: Effect, setting: Setting) -> str:
    spec = "z.2f" if setting.unit == "points" else "z.3g"
    return f"[{effect.low:{spec}}, {effect.high:{spec}}]"


def _p(p: float) -> str:
    return f"= {p:.2g}" if p >= 0.001 else "< 0.001"


def _seeds(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"
