"""Drawings of what predictions show: images that flipped, and reliability."""

from __future__ import annotations

import math

from markupsafe import Markup

from harness.analysis.outcomes import ArmOutcome, Bin, Calibration, Churn
from harness.report.drawings.svg import Scale, clip, line, rect, svg, tag, text
from harness.report.text.numbers import interval, number, signed

FEW = 100
"""A bin with fewer predictions, pooled over the seeds, is drawn faint: its accuracy may be off by ten points."""


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
