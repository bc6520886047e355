"""Intervals on an axis of effects: how one is drawn, and forest plots whose rows are rows of a table.

A table keeps the numbers beside the drawing, so a screen reader has them and a phone can stack them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from harness.analysis.types import GAINS, LOSSES, Analysis, Effect, Estimate
from harness.report.drawings.svg import Scale, Span, line, padded, rect, tag, text, tick_labels, ticks
from harness.report.text.numbers import clear_of_zero, interval, signed


def drawable(effects: Sequence[Effect]) -> list[Effect]:
    """The effects that have an interval: nothing is drawn without its uncertainty."""
    return [e for e in effects if math.isfinite(e.low) and math.isfinite(e.high)]


def declared_margin(analysis: Analysis) -> float:
    """Half the width of the margin band: zero, which draws nothing, where no margin was declared."""
    return 0.0 if math.isnan(analysis.margin) else analysis.margin


def effect_span(effects: Sequence[Effect], margin: float) -> Span:
    """Range of an effect axis: all intervals and the margin, unless a few arms reach far beyond the others.

    One collapsed arm would otherwise squeeze all others into a line; its interval ends in an arrow instead.
    """
    reach = [max(abs(e.low), abs(e.high)) for e in effects]
    limit = max(3 * median(reach), 3 * margin) if reach else margin
    low = min((max(e.low, -limit) for e in effects), default=0.0)
    high = max((min(e.high, limit) for e in effects), default=0.0)
    return padded(min(low, -1.3 * margin), max(high, 1.3 * margin))


def tone_of(effect: Effect | Estimate, higher_is_better: bool) -> str:
    """CSS classes of an interval: `open` while it holds zero, else the direction.

    The mean of an effect is filled where its verdict claims the direction; where its own interval alone excludes zero,
    it has the direction's colour and is a mere `hint`.
    """
    claimed = claims(effect) if isinstance(effect, Effect) else clear_of_zero(effect.low, effect.high)
    if not claimed and not clear_of_zero(effect.low, effect.high):
        return "open"
    if isinstance(effect, Effect) and claimed:
        return "better" if effect.verdict.kind in GAINS else "worse"
    tone = "better" if (effect.mean > 0) == higher_is_better else "worse"
    return tone if claimed else f"{tone} hint"


def claims(effect: Effect) -> bool:
    """Whether the verdict claims a direction."""
    return effect.verdict.kind in GAINS or effect.verdict.kind in LOSSES


def ways(higher_is_better: bool) -> tuple[str, str]:
    """What the left and the right end of an axis of effects mean."""
    return ("← worse", "better →") if higher_is_better else ("← better", "worse →")


def _across(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line whose ends are named in another order, which published pages have."""
    return tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=class_)


@dataclass(frozen=True)
class Lanes:
    """The layout of a column of lanes: width, air at both ends and height of a mark, in drawing units.

    `count` is about how many ticks its axis has, 0 for no grid; `labels` is the base line of their labels in the head.
    """

    width: float
    edge: float
    height: float
    class_: str | None
    count: int = 0
    labels: float = 0.0
    stroke: Callable[[float, float, float, float, str], Markup] = line

    def scale(self, span: Span) -> Scale:
        """The axis that the head and all rows share."""
        return Scale(span, (self.edge, self.width - self.edge))


BAR = Lanes(100.0, 2.0, 20.0, "bar")
"""Beside an effect in a study's table, whose column is narrow and has no head."""

STUDIES = Lanes(300.0, 8.0, 26.0, "lane", 5, 31.0, _across)
"""Of an arm in several studies, one mark for each."""

TUNING = Lanes(400.0, 10.0, 30.0, None, 6, 32.0)
"""Of a search: an arm with default values, and tuned."""

SHAPES = 4


@dataclass(frozen=True)
class Mark:
    """One interval: its ends, what it says in words, and how it looks.

    `colour` is a CSS class. A mark with a `shape`, one of `SHAPES`, which repeat, belongs to one of several studies:
    the shape tells which, so that colour is never alone, and it is `full` where the verdict claims a direction.
    """

    mean: float
    low: float
    high: float
    colour: str
    title: str = ""
    shape: int | None = None
    full: bool = False


def mark(effect: Effect, name: str, colour: str, shape: int = 0, digits: int = 2) -> Mark:
    """An effect as it is drawn among those of several studies."""
    title = f"{name}: {signed(effect.mean, digits)} {interval(effect.low, effect.high, digits)}, n = {effect.n}"
    return Mark(effect.mean, effect.low, effect.high, colour, title, shape, claims(effect))


def head(span: Span, higher_is_better: bool, layout: Lanes = STUDIES) -> Markup:
    """The scale of a column, with what its two ends mean."""
    x, at = layout.scale(span), ticks(*span, layout.count)
    worse, better = ways(higher_is_better)
    return tag(
        "svg",
        text(0, 12, worse, "tick"),
        text(layout.width, 12, better, "tick", "end"),
        *(text(x(v), layout.labels, s, "tick", "middle") for v, s in zip(at, tick_labels(at), strict=True)),
        class_=layout.class_,
        viewBox=f"0 0 {layout.width:g} 36",
        aria_hidden="true",
    )


def lane(marks: Sequence[Mark], span: Span, margin: float, layout: Lanes = STUDIES) -> Markup:
    """The intervals of one row, one under the other, over the margin, the grid and the zero line.

    A mark without an interval leaves its line empty. Hidden from screen readers: the row says the same in words.
    """
    x, height = layout.scale(span), layout.height * len(marks)
    grid = [(x(v), "grid") for v in ticks(*span, layout.count)] if layout.count else []
    drawn = [(m, layout.height * (i + 0.5)) for i, m in enumerate(marks) if math.isfinite(m.high - m.low)]
    return tag(
        "svg",
        *(tag("title", m.title) for m in marks if m.title and m.shape is None),
        rect(x(-margin), x(margin), 0, height, "margin"),
        *(layout.stroke(at, 0, at, height, class_) for at, class_ in [*grid, (x(0), "zero")]),
        *(part for m, y in drawn for part in (whisker(m, x, y, m.colour) if m.shape is None else [_of_study(m, x, y)])),
        class_=layout.class_,
        viewBox=f"0 0 {layout.width:g} {height:g}",
        aria_hidden="true",
    )


def whisker(e: Effect | Estimate | Mark, x: Scale, y: float, tone: str) -> list[Markup]:
    """An interval with its mean, filled as its tone says; arrows where it leaves the axis."""
    return _whisker(e, x, y, line, (f"ci {tone}", f"arrow {tone}", f"dot {tone}"), 5)


def _of_study(m: Mark, x: Scale, y: float) -> Markup:
    classes = ("est", "est full", f"est {'full' if m.full else 'hollow'}")
    return tag("g", tag("title", m.title), *_whisker(m, x, y, _across, classes, 6, m.shape or 0), class_=m.colour)


def _whisker(
    e: Effect | Estimate | Mark,
    x: Scale,
    y: float,
    stroke: Callable[[float, float, float, float, str], Markup],
    classes: tuple[str, str, str],
    reach: int,
    shape: int = 0,
) -> list[Markup]:
    """An interval: the classes are those of its line, of an arrow, which is `reach` long, and of the mean."""
    low, high = x.data
    a, b = (x(min(max(v, low), high)) for v in (e.low, e.high))
    parts = [stroke(a, y, b, y, classes[0])]
    for end, at, beyond, way in ((e.low, a, e.low < low, 1), (e.high, b, e.high > high, -1)):
        if beyond:
            parts.append(tag("path", d=f"M{at:.1f} {y:.1f}l{reach * way} -4v8z", class_=classes[1]))
        elif low <= end <= high:
            parts.append(stroke(at, y - 4, at, y + 4, classes[0]))
    return [*parts, _dot(x(e.mean), y, shape, classes[2])] if low <= e.mean <= high else parts


def _dot(x: float, y: float, shape: int, class_: str) -> Markup:
    """A disc, a square, a diamond or a triangle."""
    at = f"M{x:.1f} {y:.1f}"
    outline = (None, "m-4 -4h8v8h-8z", "m0 -5.5l5 5.5l-5 5.5l-5 -5.5z", "m0 -5l5 8.5h-10z")[shape % SHAPES]
    return tag("path", d=at + outline, class_=class_) if outline else tag("circle", cx=x, cy=y, r=4, class_=class_)


def sample(colour: str, shape: int) -> Markup:
    """The sample of a study beside its name."""
    parts = _across(0, 8, 20, 8, "est"), _dot(10, 8, shape, "est full")
    return tag("svg", tag("g", *parts, class_=colour), viewBox="0 0 20 16", class_="sample", aria_hidden="true")
