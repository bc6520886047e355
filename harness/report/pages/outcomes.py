"""The section on single classes, churn and calibration: rows for its tables, and its drawings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.analysis.outcomes import PLACEBO, ArmOutcome, Calibration, Churn, Mean, Outcomes
from harness.report.drawings.outcomes import FEW, flips, reliability
from harness.report.text.numbers import clear_of_zero, interval, number, p_value, signed
from harness.store.schema import CONFIDENCE_BINS

SHOWN = 12
"""Arms outside the fold of each table."""

SHOWN_CLASSES = 24
SHOWN_DIAGRAMS = 8

SHADES = 5
"""Steps of colour of the table of classes, on each side of zero."""

CONTROLS = {PLACEBO: "other random streams, same split", "erm_baseline": "changes nothing"}


@dataclass(frozen=True)
class ClassCell:
    """A mean and half of its interval as text, and how the cell looks: `shade` is a CSS class."""

    text: str
    half: str
    strong: bool = False
    shade: str = ""


@dataclass(frozen=True)
class ClassRow:
    """One arm, or the baseline, in the table of classes."""

    name: str
    cells: Sequence[ClassCell]
    n: str


@dataclass(frozen=True)
class OutcomeRow:
    """One arm in another table: a remark on its name, a drawing, then (number, interval, bold) for each column."""

    name: str
    remark: str
    drawing: Markup
    cells: Sequence[tuple[str, str, bool]]
    n: int


@dataclass(frozen=True)
class OutcomesSection:
    """What the template shows. Of each list of rows, the first `SHOWN` are outside the fold."""

    outcomes: Outcomes
    alpha: str
    level: str
    by_chance: str
    class_names: Sequence[str]
    class_count: int
    reference: Sequence[ClassRow]
    classes: Sequence[ClassRow]
    placebo: Churn | None
    churn: Sequence[OutcomeRow]
    calibration: Sequence[OutcomeRow]
    diagrams: Sequence[Markup]
    shown: int = SHOWN
    few: int = FEW
    bins: int = CONFIDENCE_BINS


def outcomes_section(outcomes: Outcomes, names: Sequence[str]) -> OutcomesSection:
    """The section of a study.

    Args:
        outcomes: of the study.
        names: of the classes, by number.
    """
    arms = outcomes.arms
    kept = _telling_classes(outcomes)
    limit = _limit(abs(m.value) for arm in arms for m in arm.classes)

    def class_row(arm: ArmOutcome) -> ClassRow:
        return ClassRow(arm.arm, [_class_cell(arm.classes[k], outcomes.alpha, limit) for k in kept], _span(arm.classes))

    reference = [
        ClassRow(name, [ClassCell(number(means[k].value, 1), _half(means[k])) for k in kept], _span(means))
        for name, means in (("baseline accuracy", outcomes.accuracy), ("baseline confidence", outcomes.confidence))
    ]
    by_class = sorted(arms, key=lambda a: -max((abs(m.value) for m in a.classes if m.n), default=0.0))
    by_churn = sorted(arms, key=lambda a: (not _remark(a), -_size(a.churn.total)))
    by_ece = sorted(arms, key=lambda a: -_size(a.ece_change))
    placebo = next((a.churn for a in arms if a.tricks == (PLACEBO,)), None)
    reach = _limit(end for a in arms for m in (a.churn.fixed, a.churn.broken) for end in (m.value, m.high))
    return OutcomesSection(
        outcomes=outcomes,
        alpha=f"{outcomes.alpha:.4g}",
        level=f"{100 * (1 - outcomes.alpha):.4g} %",
        by_chance=number(outcomes.alpha * len(arms), 1),
        class_names=[names[k] for k in kept],
        class_count=len(names),
        reference=reference,
        classes=[class_row(a) for a in by_class],
        placebo=placebo,
        churn=[_churn_row(a, placebo, reach) for a in by_churn],
        calibration=[_calibration_row("baseline", outcomes.calibration, None, outcomes.alpha)]
        + [_calibration_row(a.arm, a.calibration, a.ece_change, outcomes.alpha) for a in by_ece],
        diagrams=[reliability(a, outcomes.calibration) for a in by_ece[:SHOWN_DIAGRAMS]],
    )


def class_names(runs: pd.DataFrame, count: int) -> list[str]:
    """The classes as the experiment names them, or else their numbers."""
    specs = runs["spec"].dropna()
    named = json.loads(specs.iloc[0])["data"].get("classes") if len(specs) else None
    return named if isinstance(named, list) and len(named) == count else [str(k) for k in range(count)]


def _telling_classes(outcomes: Outcomes) -> list[int]:
    """The classes that are shown, in order: all, or those that differ most in any arm."""
    largest = [
        max((_size(arm.classes[k]) for arm in outcomes.arms), default=0.0) for k in range(len(outcomes.accuracy))
    ]
    return sorted(np.argsort([-v for v in largest], kind="stable")[:SHOWN_CLASSES].tolist())


def _size(mean: Mean | None) -> float:
    return abs(mean.value) if mean is not None and math.isfinite(mean.value) else 0.0


def _limit(sizes: Iterable[float]) -> float:
    """The end of a scale: all values, unless a few lie far beyond the others; those leave the scale."""
    found = [v for v in sizes if math.isfinite(v)]
    return max(min(max(found, default=0.0), 4 * float(np.median(found or [0.0]))), 0.5)


def _clear(mean: Mean, alpha: float) -> bool:
    """Whether a difference is told from zero at the adjusted level."""
    return mean.p_holm < alpha and clear_of_zero(mean.low, mean.high)


def _half(mean: Mean) -> str:
    half = (mean.high - mean.low) / 2
    return f"±{number(half, 1)}" if math.isfinite(half) else ""


def _span(means: Sequence[Mean]) -> str:
    """The numbers of seeds of several means: "10" or "9–10"."""
    counts = sorted({m.n for m in means if m.n})
    return "–".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


def _class_cell(mean: Mean, alpha: float, limit: float) -> ClassCell:
    if not mean.n:
        return ClassCell("–", "")
    clear = _clear(mean, alpha)
    # What may be chance is at most as strong as the two lightest shades.
    step = round(min(abs(mean.value) / limit, 1.0) * (SHADES if clear else 2))
    shade = f"{'up' if mean.value > 0 else 'down'} s{step}" if step else ""
    return ClassCell(signed(mean.value, 1), _half(mean), clear, shade)


def _remark(arm: ArmOutcome) -> str:
    """What a control arm is for, or nothing."""
    return CONTROLS.get(arm.tricks[0], "") if len(arm.tricks) == 1 else ""


def _shown(mean: Mean, sign: bool = False, strong: bool = False) -> tuple[str, str, bool]:
    return (signed if sign else number)(mean.value), interval(mean.low, mean.high), strong


def _churn_row(arm: ArmOutcome, placebo: Churn | None, reach: float) -> OutcomeRow:
    churn = arm.churn
    cells = [_shown(m) for m in (churn.broken, churn.fixed, churn.changed, churn.total)]
    if placebo is not None:
        beyond = None if _remark(arm) else churn.beyond
        cells.append(_shown(beyond, True, clear_of_zero(beyond.low, beyond.high)) if beyond else ("–", "", False))
    return OutcomeRow(arm.arm, _remark(arm), flips(churn, placebo, reach), cells, churn.total.n)


def _calibration_row(name: str, calibration: Calibration, change: Mean | None, alpha: float) -> OutcomeRow:
    told = [("–", "", False)] * 2
    if change is not None:
        told = [_shown(change, True, _clear(change, alpha)), (p_value(change.p_holm), "", False)]
    cells = [_shown(calibration.ece), *told, _shown(calibration.gap, True)]
    return OutcomeRow(name, "", Markup(), cells, (change or calibration.ece).n)
