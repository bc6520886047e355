"""What several studies say of the same arm, in words and as a table; the page and the terminal share them."""

from __future__ import annotations

import math

from harness.analysis.compare import ArmComparison, Comparison, Difference, Heterogeneity, Signs
from harness.report.text.numbers import number, plural, told_p
from harness.report.text.words import counted

SIGNS: dict[Signs, str] = {
    "agree": "signs agree",
    "differ": "signs differ, but the intervals leave room for either",
    "flip": "the sign flips: intervals exclude zero on opposite sides",
}


def agreement(arm: ArmComparison) -> str:
    """What the studies say together, in words: signs, verdicts, heterogeneity, shared runs."""
    parts = [SIGNS[arm.signs], "same verdict" if arm.same_verdict else "verdicts differ"]
    if arm.heterogeneity:
        parts.append(f"test that the effects are equal: {heterogeneity_told(arm, arm.heterogeneity)}")
    parts += [f"{a} and {b} share their runs, so they are one piece of evidence" for a, b in arm.shared]
    return "; ".join(parts)


def heterogeneity_told(arm: ArmComparison, found: Heterogeneity) -> str:
    """The p of the test for heterogeneity, and which test that is: "p = 0.064 (paired t over 10 blocks)"."""
    if math.isfinite(found.f):
        how = f"Welch's ANOVA, F({found.freedom[0]:.0f}, {found.freedom[1]:.1f}) = {number(found.f)}"
    elif len(arm.differences) == 1:
        how = how_compared(arm.differences[0])
    else:
        how = f"the smallest p of {len(arm.differences)} pairs of studies, Bonferroni-corrected"
    return f"{told_p(found.p)} ({how})"


def how_compared(difference: Difference) -> str:
    """How two studies were compared: "paired t over 10 blocks", "Welch's t"."""
    return f"paired t over {plural(difference.pairs, 'block')}" if difference.pairs else "Welch's t"


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
                    n=counted(e),
                    effect=f"{_estimate(e.mean, e.low, e.high)} {units[study]}".rstrip(),
                    verdict=e.verdict.label,
                    difference=f"{_estimate(d.mean, d.low, d.high)}, p = {d.p:.2g}, {how_compared(d)}" if d else "",
                )
            )
        if arm.overall:
            m = arm.overall
            effect = f"{_estimate(m.mean, m.low, m.high)} {units[first]}".rstrip()
            said = f"Hartung-Knapp, {m.k} studies; standard deviation between them {m.between:.3g}"
            table.append(_row(arm.arm, "mean", effect=effect, verdict=said))
        table.append(_row(arm.arm, "together", verdict=agreement(arm)))
    return table


def _row(
    arm: str, study: str, n: str = "", effect: str = "", verdict: str = "", difference: str = ""
) -> dict[str, str]:
    return {"arm": arm, "study": study, "n": n, "effect": effect, "verdict": verdict, "difference": difference}


def _estimate(mean: float, low: float, high: float) -> str:
    return f"{mean:+z.3g} [{low:z.3g}, {high:z.3g}]"
