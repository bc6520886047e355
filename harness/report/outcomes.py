"""The section on single classes, churn and calibration: rows for its tables, and its drawings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.analysis.outcomes import PLACEBO, ArmOutcome, Bin, Calibration, Churn, Mean, Outcomes
from harness.report.figures import Scale, clip, line, rect, svg, tag, text
from harness.report.tables import clear_of_zero, interval, number, p_value, signed
from harness.store.schema import CONFIDENCE_BINS

SHOWN = 12
"""Arms outside the fold of each table."""

SHOWN_CLASSES = 24
SHOWN_DIAGRAMS = 8

FEW = 100
"""A bin with fewer predictions, pooled over the seeds, is drawn faint: its accuracy may be off by ten points."""

SHADES = 5
"""Steps of colour of the table of classes, on each side of zero."""

CONTROLS = {PLACEBO: "other random streams, same split", "erm_baseline": "changes nothing"}


@dataclass(frozen=True)
class Cell:
    """A mean and half of its interval as text, and how the cell looks: `shade` is a CSS class."""

    text: str
    half: str
    strong: bool = False
    shade: str = ""


@dataclass(frozen=True)
class ClassRow:
    """One arm, or the baseline, in the table of classes."""

    name: str
    cells: Sequence[Cell]
    n: str


@dataclass(frozen=True)
class Row:
    """One arm in another table: a remark on its name, a drawing, then (number, interval, bold) for each column."""

    name: str
    remark: str
    drawing: Markup
    cells: Sequence[tuple[str, str, bool]]
    n: int


@dataclass(frozen=True)
class View:
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
    churn: Sequence[Row]
    calibration: Sequence[Row]
    diagrams: Sequence[Markup]
    shown: int = SHOWN
    few: int = FEW
    bins: int = CONFIDENCE_BINS


def view(outcomes: Outcomes, names: Sequence[str]) -> View:
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
        ClassRow(name, [Cell(number(means[k].value, 1), _half(means[k])) for k in kept], _span(means))
        for name, means in (("baseline accuracy", outcomes.accuracy), ("baseline confidence", outcomes.confidence))
    ]
    by_class = sorted(arms, key=lambda a: -max((abs(m.value) for m in a.classes if m.n), default=0.0))
    by_churn = sorted(arms, key=lambda a: (not _remark(a), -_size(a.churn.total)))
    by_ece = sorted(arms, key=lambda a: -_size(a.ece_change))
    placebo = next((a.churn for a in arms if a.tricks == (PLACEBO,)), None)
    reach = _limit(end for a in arms for m in (a.churn.fixed, a.churn.broken) for end in (m.value, m.high))
    return View(
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


def _class_cell(mean: Mean, alpha: float, limit: float) -> Cell:
    if not mean.n:
        return Cell("–", "")
    clear = _clear(mean, alpha)
    # What may be chance is at most as strong as the two lightest shades.
    step = round(min(abs(mean.value) / limit, 1.0) * (SHADES if clear else 2))
    shade = f"{'up' if mean.value > 0 else 'down'} s{step}" if step else ""
    return Cell(signed(mean.value, 1), _half(mean), clear, shade)


def _remark(arm: ArmOutcome) -> str:
    """What a control arm is for, or nothing."""
    return CONTROLS.get(arm.tricks[0], "") if len(arm.tricks) == 1 else ""


def _shown(mean: Mean, sign: bool = False, strong: bool = False) -> tuple[str, str, bool]:
    return (signed if sign else number)(mean.value), interval(mean.low, mean.high), strong


def _churn_row(arm: ArmOutcome, placebo: Churn | None, reach: float) -> Row:
    churn = arm.churn
    cells = [_shown(m) for m in (churn.broken, churn.fixed, churn.changed, churn.total)]
    if placebo is not None:
        beyond = None if _remark(arm) else churn.beyond
        cells.append(_shown(beyond, True, clear_of_zero(beyond.low, beyond.high)) if beyond else ("–", "", False))
    return Row(arm.arm, _remark(arm), flips(churn, placebo, reach), cells, churn.total.n)


def _calibration_row(name: str, calibration: Calibration, change: Mean | None, alpha: float) -> Row:
    told = [("–", "", False)] * 2
    if change is not None:
        told = [_shown(change, True, _clear(change, alpha)), (p_value(change.p_holm), "", False)]
    cells = [_shown(calibration.ece), *told, _shown(calibration.gap, True)]
    return Row(name, "", Markup(), cells, (change or calibration.ece).n)


def flips(churn: Churn, placebo: Churn | None, reach: float) -> Markup:
    """Broken images to the left and fixed ones to the right, with whiskers; dotted lines are the placebo's."""
    x, y = Scale((-reach, reach), (14.0, 206.0)), 11.0
    parts: list[Markup] = []
    if not churn.total.n:
        return Markup()
    for mean, way, tone in ((churn.broken, -1, "worse"), (churn.fixed, 1, "better")):
        end = x(way * min(mean.value, reach))
        parts.append(rect(x(0), end, 4, 18, f"flip {tone}"))
        if mean.value > reach:
            parts.append(tag("path", d=f"M{end + 12 * way:.1f} {y}l{-9 * way} -7v14z", class_=f"arrow {tone}"))
        elif math.isfinite(mean.low):
            low, high = (x(way * min(v, reach)) for v in (max(mean.low, 0.0), mean.high))
            parts.append(line(low, y, high, y, "whisk"))
            parts += [line(v, y - 3, v, y + 3, "whisk") for v in (low, high)]
        if placebo is not None:
            floor = x(way * min((placebo.broken if way < 0 else placebo.fixed).value, reach))
            parts.append(line(floor, 0, floor, 22, "mde"))
    parts.append(line(x(0), 0, x(0), 22, "zero"))
    return tag("svg", *parts, class_="flips", viewBox="0 0 220 22", aria_hidden="true")


def reliability(arm: ArmOutcome, base: Calibration) -> Markup:
    """Accuracy against confidence in bins, for an arm and, hollow, the baseline; below the diagonal is too sure."""
    x, y = Scale((0, 100), (34.0, 244.0)), Scale((0, 100), (232.0, 34.0))
    parts = [text(0, 14, clip(arm.arm, 30), "strong")]
    for v in (0, 25, 50, 75, 100):
        parts += [line(x(0), y(v), x(100), y(v), "grid"), text(x(0) - 6, y(v) + 4, str(v), "tick", "end")]
        parts.append(text(x(v), y(0) + 16, str(v), "tick", "middle"))
    parts.append(line(x(0), y(0), x(100), y(100), "zero"))
    for bins, kind in ((base.bins, "hollow"), (arm.calibration.bins, "filled")):
        parts += [_bin_mark(b, x, y, kind) for b in bins]
    parts.append(text(139, y(0) + 34, "confidence (%)", "quiet", "middle"))
    ece = f"ECE {number(base.ece.value)} → {number(arm.calibration.ece.value)}"
    change = (
        f"{signed(arm.ece_change.value)} {interval(arm.ece_change.low, arm.ece_change.high)}, n = {arm.ece_change.n}"
    )
    parts += [text(0, y(0) + 54, ece, "quiet"), text(0, y(0) + 70, change, "quiet")]
    spoken = "; ".join(
        f"confidence {number(b.confidence, 0)} %, accuracy {number(b.accuracy, 0)} % {interval(b.low, b.high, 0)}, "
        f"{b.images} images"
        for b in arm.calibration.bins
    )
    return svg(250, 310, f"Reliability of {arm.arm}", f"{ece}, {change}. {spoken}.", *parts, class_="reliability")


def _bin_mark(b: Bin, x: Scale, y: Scale, kind: str) -> Markup:
    cx, cy = x(b.confidence), y(b.accuracy)
    ends = [line(cx, y(b.low), cx, y(b.high), f"whisk {kind}")] if math.isfinite(b.low) else []
    label = (
        f"confidence {number(b.confidence, 1)} %, accuracy {number(b.accuracy, 1)} % {interval(b.low, b.high, 1)}, "
        f"{b.images} images in {b.seeds} runs"
    )
    faint = " faint" if b.images < FEW else ""
    dot = tag("circle", cx=cx, cy=cy, r=3.2, class_=f"bin {kind}")
    return tag("g", tag("title", label), *ends, dot, class_=f"mark{faint}")
