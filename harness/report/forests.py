"""Forest plots inside tables: each row draws its intervals on one axis, which the head of the column carries.

A table keeps the numbers beside the drawing, so a screen reader has them and a phone can stack them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.analysis.types import Effect
from harness.report.figures import Scale, Span, tag, tick_labels, ticks
from harness.report.tables import clear_of_zero, interval, signed

WIDTH, LINE = 300.0, 26.0
"""Drawing units: of the column, and of one interval's line."""

EDGE = 8.0
SHAPES = 4


@dataclass(frozen=True)
class Mark:
    """One interval: its name, its ends, and how it looks.

    `colour` is a CSS class that sets the colour; `shape` is one of `SHAPES`, which repeat, so that colour is never
    alone. It is filled where the interval excludes zero.
    """

    name: str
    mean: float
    low: float
    high: float
    n: str
    colour: str
    shape: int = 0


def mark(effect: Effect, name: str, colour: str, shape: int = 0) -> Mark:
    """An effect as it is drawn."""
    return Mark(name, effect.mean, effect.low, effect.high, f"n = {effect.n}", colour, shape)


def axis(span: Span, higher_is_better: bool) -> Markup:
    """The scale of a column, with what its two ends mean."""
    x, at = Scale(span, (EDGE, WIDTH - EDGE)), ticks(*span, 5)
    ends = ("← worse", "better →") if higher_is_better else ("← better", "worse →")
    labels = [
        tag("text", label, x=x(v), y=31, class_="tick", text_anchor="middle")
        for v, label in zip(at, tick_labels(at), strict=True)
    ]
    return tag(
        "svg",
        tag("text", ends[0], x=0, y=12, class_="tick"),
        tag("text", ends[1], x=WIDTH, y=12, class_="tick", text_anchor="end"),
        *labels,
        class_="lane",
        viewBox=f"0 0 {WIDTH:g} 36",
        aria_hidden="true",
    )


def lane(marks: Sequence[Mark], span: Span, margin: float, digits: int = 2) -> Markup:
    """The intervals of one row, one under the other, over the margin, the grid and the zero line.

    A mark without an interval leaves its line empty. Hidden from screen readers: the row says the same in words.
    """
    x, height = Scale(span, (EDGE, WIDTH - EDGE)), LINE * len(marks)
    upright = [(x(v), "grid") for v in ticks(*span, 5)] + [(x(0), "zero")]
    return tag(
        "svg",
        tag("rect", x=x(-margin), y=0, width=x(margin) - x(-margin), height=height, class_="margin"),
        *(tag("line", x1=at, x2=at, y1=0, y2=height, class_=class_) for at, class_ in upright),
        *(_whisker(m, x, LINE * (i + 0.5), digits) for i, m in enumerate(marks) if math.isfinite(m.high - m.low)),
        class_="lane",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        aria_hidden="true",
    )


def _whisker(m: Mark, x: Scale, y: float, digits: int) -> Markup:
    """One interval; an arrow where it leaves the axis."""
    low, high = x.data
    a, b = (x(min(max(v, low), high)) for v in (m.low, m.high))
    parts = [tag("line", x1=a, x2=b, y1=y, y2=y, class_="est")]
    for end, at, beyond, way in ((m.low, a, m.low < low, 1), (m.high, b, m.high > high, -1)):
        if beyond:
            parts.append(tag("path", d=f"M{at:.1f} {y:.1f}l{6 * way} -4v8z", class_="est full"))
        elif low <= end <= high:
            parts.append(tag("line", x1=at, x2=at, y1=y - 4, y2=y + 4, class_="est"))
    if low <= m.mean <= high:
        parts.append(_dot(x(m.mean), y, m.shape, f"est {'full' if clear_of_zero(m.low, m.high) else 'hollow'}"))
    title = f"{m.name}: {signed(m.mean, digits)} {interval(m.low, m.high, digits)}, {m.n}"
    return tag("g", tag("title", title), *parts, class_=m.colour)


def _dot(x: float, y: float, shape: int, class_: str) -> Markup:
    """A disc, a square, a diamond or a triangle."""
    at = f"M{x:.1f} {y:.1f}"
    outline = (None, "m-4 -4h8v8h-8z", "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z", "m0 -5l5 8.5h-10z")[shape % SHAPES]
    return tag("path", d=at + outline, class_=class_) if outline else tag("circle", cx=x, cy=y, r=4, class_=class_)


def key(colour: str, shape: int) -> Markup:
    """The sample of a study beside its name."""
    parts = tag("line", x1=0, x2=20, y1=8, y2=8, class_="est"), _dot(10, 8, shape, "est full")
    return tag("svg", tag("g", *parts, class_=colour), viewBox="0 0 20 16", class_="sample", aria_hidden="true")
