"""Figures as inline SVG from plain data. Colours are CSS classes, so one drawing suits light, dark, print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from markupsafe import Markup, escape

from harness.analysis.types import Analysis, Effect
from harness.report.tables import (
    clear_of_zero,
    confidence,
    decimals,
    interval,
    metric_name,
    number,
    ratio,
    signed,
)

COLOURS = 7
DASHES = ("", "7 3", "2 3", "9 3 2 3")

Span = tuple[float, float]


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element with everything in it escaped. `class_` and `stroke_width` become class and stroke-width."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(value)
            parts.append(f' {key.rstrip("_").replace("_", "-")}="{text}"')
    return Markup("".join((*parts, ">", *map(escape, children), f"</{name}>")))


def svg(width: float, height: float, title: str, description: str, *children: object, class_: str = "") -> Markup:
    """A drawing that scales with its container and says in words what it shows."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        role="img",
        class_=class_ or None,
        viewBox=f"0 0 {width:g} {height:g}",
    )


@dataclass(frozen=True)
class Scale:
    """A linear map from data to drawing units."""

    data: Span
    out: Span

    def __call__(self, value: float) -> float:
        """Where a value is drawn."""
        (a, b), (c, d) = self.data, self.out
        return c + (value - a) / ((b - a) or 1.0) * (d - c)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) inside the range, about `count` of them."""
    if not low < high:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.7 * raw)
    first = math.ceil(low / step - 1e-9)
    return [i * step + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float]) -> list[str]:
    """Just as many decimals as the step needs."""
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return [number(v, places) for v in values]


def padded(low: float, high: float, share: float = 0.05) -> Span:
    """The range with some air on both sides, never empty."""
    pad = (high - low) * share or abs(low) * share or 1.0
    return low - pad, high + pad


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


def clip(text: str, characters: int) -> str:
    """The text, or its beginning with an ellipsis."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _rect(x0: float, x1: float, y0: float, y1: float, class_: str) -> Markup:
    return tag("rect", x=min(x0, x1), y=min(y0, y1), width=abs(x1 - x0), height=abs(y1 - y0), class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str, *children: object) -> Markup:
    return tag("line", *children, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    return tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def _tone(effect: Effect, higher_is_better: bool) -> str:
    """CSS class of an interval: `open` while it holds zero, else the direction."""
    if not clear_of_zero(effect.low, effect.high):
        return "open"
    return "better" if (effect.mean > 0) == higher_is_better else "worse"


def _whisker(effect: Effect, x: Scale, y: float, tone: str) -> list[Markup]:
    """An interval with its mean, filled when clear of zero; arrows where it leaves the axis."""
    low, high = x.data
    a, b = (x(min(max(v, low), high)) for v in (effect.low, effect.high))
    marks = [_line(a, y, b, y, f"ci {tone}")]
    for beyond, at, way in ((effect.low < low, a, 1), (effect.high > high, b, -1)):
        if beyond:
            marks.append(tag("path", d=f"M{at:.1f} {y:.1f}l{5 * way} -4v8z", class_=f"arrow {tone}"))
        elif low <= (effect.low if way == 1 else effect.high) <= high:
            marks.append(_line(at, y - 4, at, y + 4, f"ci {tone}"))
    if low <= effect.mean <= high:
        marks.append(tag("circle", cx=x(effect.mean), cy=y, r=4, class_=f"dot {tone}"))
    return marks


def interval_bar(effect: Effect, analysis: Analysis, span: Span) -> Markup:
    """The interval of one table row: margin band, zero line, mean and ends on an axis shared by the table."""
    x, margin = Scale(span, (2, 98)), declared_margin(analysis)
    return tag(
        "svg",
        _rect(x(-margin), x(margin), 0, 20, "margin"),
        _line(x(0), 0, x(0), 20, "zero"),
        *_whisker(effect, x, 10, _tone(effect, analysis.higher_is_better)),
        class_="bar",
        viewBox="0 0 100 20",
        aria_hidden="true",
    )


def forest(analysis: Analysis) -> Markup:
    """Effects with intervals, best first, against zero, the margin and what each n could detect."""
    effects = sorted(drawable(analysis.effects), key=lambda e: e.mean, reverse=analysis.higher_is_better)
    d, margin, row, top = decimals(analysis), declared_margin(analysis), 28, 26
    level = confidence(analysis)
    bottom = top + row * len(effects)
    x = Scale(effect_span(effects, margin), (190, 690))
    at = ticks(*x.data, 7)
    parts = [_rect(x(-margin), x(margin), top, bottom, "margin")]
    parts += [_line(x(v), top, x(v), bottom, "grid") for v in at]
    parts += [_text(x(v), bottom + 18, label, "tick", "middle") for v, label in zip(at, tick_labels(at), strict=True)]
    parts.append(_line(x(0), top - 6, x(0), bottom, "zero"))
    worse, better = ("← worse", "better →") if analysis.higher_is_better else ("← better", "worse →")
    parts += [_text(190, 14, worse, "quiet"), _text(690, 14, better, "quiet", "end")]
    parts += [
        _text(710, 14, f"effect [{level} CI]", "quiet"),
        _text(980, 14, "pairs", "quiet", "end"),
    ]
    for i, e in enumerate(effects):
        y = top + row * (i + 0.5)
        strong = "strong" if clear_of_zero(e.low, e.high) else ""
        numbers = f"{signed(e.mean, d)} {interval(e.low, e.high, d)}"
        tick = [
            _line(x(v), y - 9, x(v), y + 9, "mde") for v in (-e.mde, e.mde) if x.data[0] <= v <= x.data[1]
        ]  # NaN compares false, so an unknown MDE draws nothing
        parts.append(
            tag(
                "g",
                tag("title", f"{e.arm}: {numbers}, n = {e.n}; {e.verdict.label}"),
                _text(178, y + 4, clip(e.arm, 23), "", "end"),
                *tick,
                *_whisker(e, x, y, _tone(e, analysis.higher_is_better)),
                _text(710, y + 4, numbers, strong),
                _text(980, y + 4, str(e.n), "", "end"),
            )
        )
    parts.append(
        _text(
            440,
            bottom + 38,
            f"effect on {metric_name(analysis.metric)}{f' ({analysis.unit})' if analysis.unit else ''}",
            "quiet",
            "middle",
        )
    )
    description = "; ".join(f"{e.arm} {signed(e.mean, d)} {interval(e.low, e.high, d)}, n = {e.n}" for e in effects)
    return svg(990, bottom + 48, f"Effects with {level} confidence intervals", description, *parts, class_="forest")


@dataclass(frozen=True)
class Series:
    """One arm's curve: at each epoch the mean over seeds and a 95 % t band (NaN where there is none)."""

    arm: int
    n: int
    epochs: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One learning-curve plot."""

    title: str
    unit: str
    series: Sequence[Series]


PANEL = (400.0, 290.0)
PANEL_X = (46.0, 392.0)
PANEL_Y = (250.0, 12.0)


def arm_class(arm: int) -> str:
    """CSS class of an arm's colour: the baseline (0) is drawn in ink, the others take turns."""
    return "c0" if arm == 0 else f"c{(arm - 1) % COLOURS + 1}"


def arm_dash(arm: int) -> str | None:
    """Dash pattern that tells arms of one colour apart."""
    return DASHES[(arm - 1) // COLOURS % len(DASHES)] or None if arm else None


def swatch(arm: int) -> Markup:
    """The line sample of a legend entry."""
    stroke = tag("line", x1=1, y1=5, x2=27, y2=5, class_=f"mean {arm_class(arm)}", stroke_dasharray=arm_dash(arm))
    return tag("svg", stroke, viewBox="0 0 28 10", class_="swatch", aria_hidden="true")


def curve_spans(panel: Panel, shown: int) -> tuple[Span, Span]:
    """Axis ranges. The vertical one fits the last four fifths of training, where the arms differ."""
    last = max(s.epochs[-1] for s in panel.series)
    late = []
    for s in panel.series:
        for epoch, mean, low, high in zip(s.epochs, s.mean, s.low, s.high, strict=True):
            if epoch >= 0.2 * last:
                late += [mean, low, high] if s.arm < shown else [mean]
    late = [v for v in late if math.isfinite(v)] or [0.0, 1.0]
    return (min(s.epochs[0] for s in panel.series), last), padded(min(late), max(late))


def curve_panel(panel: Panel, names: Sequence[str], shown: int) -> Markup:
    """Mean and band of every arm; those from `shown` on are there but hidden until switched on."""
    across, up = curve_spans(panel, shown)
    x, y = Scale(across, PANEL_X), Scale(up, PANEL_Y)
    xs, ys = ticks(*across, 6), ticks(*up, 5)
    frame = [_line(PANEL_X[0], y(v), PANEL_X[1], y(v), "grid") for v in ys]
    frame += [
        _text(PANEL_X[0] - 6, y(v) + 4, label, "tick", "end") for v, label in zip(ys, tick_labels(ys), strict=True)
    ]
    frame += [_text(x(v), PANEL_Y[0] + 18, s, "tick", "middle") for v, s in zip(xs, tick_labels(xs), strict=True)]
    frame.append(_text(sum(PANEL_X) / 2, PANEL_Y[0] + 36, "epoch", "quiet", "middle"))
    groups = []
    for s in reversed(panel.series):  # the baseline last, on top
        points = [(x(e), y(m), y(lo), y(hi)) for e, m, lo, hi in zip(s.epochs, s.mean, s.low, s.high, strict=True)]
        banded = [p for p in points if math.isfinite(p[2])]
        edge = [(p[0], p[2]) for p in banded] + [(p[0], p[3]) for p in reversed(banded)]
        colour = arm_class(s.arm)
        groups.append(
            tag(
                "g",
                *([tag("path", d=_path(edge) + "z", class_=f"band {colour}")] if len(banded) > 1 else []),
                tag(
                    "path",
                    d=_path([p[:2] for p in points]),
                    class_=f"mean {colour}",
                    stroke_dasharray=arm_dash(s.arm),
                ),
                class_="arm" if s.arm < shown else "arm off",
                data_arm=s.arm,
            )
        )
    # A nested svg clips what leaves the frame without naming a clip path.
    width, height = PANEL_X[1] - PANEL_X[0], PANEL_Y[0] - PANEL_Y[1]
    view = f"{PANEL_X[0]:g} {PANEL_Y[1]:g} {width:g} {height:g}"
    inner = tag("svg", *groups, x=PANEL_X[0], y=PANEL_Y[1], width=width, height=height, viewBox=view)
    cursor = _line(0, PANEL_Y[1], 0, PANEL_Y[0], "cursor")
    # The empty title keeps the browser's own tooltip from covering the read-out.
    hover = tag("rect", tag("title"), x=PANEL_X[0], y=0, width=width, height=PANEL_Y[0], class_="hover")
    ends = "; ".join(
        f"{names[s.arm]} ends at {number(s.mean[-1])} {interval(s.low[-1], s.high[-1])}, n = {s.n}"
        for s in panel.series
        if s.arm < shown
    )
    axis = _line(PANEL_X[0], PANEL_Y[0], PANEL_X[1], PANEL_Y[0], "axis")
    title = f"{panel.title} against epoch"
    return svg(*PANEL, title, ends, *frame, inner, axis, cursor, hover, class_="panel")


def _path(points: Sequence[tuple[float, ...]]) -> str:
    """An open polyline through the finite points."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points if math.isfinite(b))


def pairs(effect: Effect, analysis: Analysis) -> Markup:
    """Each seed's baseline and arm joined by a line; beside them the differences, their mean and interval."""
    d, margin = decimals(analysis), declared_margin(analysis)
    top, bottom, left, right, axis = 30.0, 190.0, 62.0, 142.0, 222.0
    y = Scale(padded(min(*effect.base, *effect.treated), max(*effect.base, *effect.treated)), (bottom, top))
    differences = effect.differences
    # The interval of an arm that diverged on one seed may reach far beyond its points.
    z = Scale(
        padded(min(*differences, effect.low, -margin), max(*differences, effect.high, margin)),
        (bottom, top),
    )
    parts = [_text(8, 16, clip(effect.arm, 36), "strong")]
    for scale, edge, anchor in ((y, left - 20, "end"), (z, 286.0, "start")):
        at = ticks(*scale.data, 4)
        parts += [_text(edge, scale(v) + 4, s, "tick", anchor) for v, s in zip(at, tick_labels(at), strict=True)]
    parts += [
        _rect(axis - 44, 280, z(-margin), z(margin), "margin"),
        _line(axis - 44, z(0), 280, z(0), "zero"),
    ]
    sign = 1 if analysis.higher_is_better else -1
    for i, (seed, b, t) in enumerate(zip(effect.seeds, effect.base, effect.treated, strict=True)):
        way = "better" if sign * (t - b) > 0 else "worse"
        label = tag("title", f"seed {seed}: {number(b, d)} → {number(t, d)} ({signed(t - b, d)})")
        parts.append(_line(left, y(b), right, y(t), f"pair {way}", label))
        parts.append(tag("circle", label, cx=axis - 24 + 6 * (i % 3), cy=z(t - b), r=3, class_=f"point {way}"))
    low, high = z(effect.low), z(effect.high)
    tone = _tone(effect, analysis.higher_is_better)
    parts += [
        _line(axis + 30, low, axis + 30, high, f"ci {tone}"),
        tag("circle", cx=axis + 30, cy=z(effect.mean), r=4, class_=f"dot {tone}"),
        _text(left, bottom + 20, "baseline", "tick", "middle"),
        _text(right, bottom + 20, "arm", "tick", "middle"),
        _text(axis + 4, bottom + 20, "difference", "tick", "middle"),
        _text(
            8,
            bottom + 40,
            f"{signed(effect.mean, d)} {interval(effect.low, effect.high, d)}, n = {effect.n}",
            "quiet",
        ),
    ]
    description = f"Mean difference {signed(effect.mean, d)} {interval(effect.low, effect.high, d)}, n = {effect.n}."
    return svg(320, bottom + 48, f"{effect.arm} against baseline, seed by seed", description, *parts, class_="pairs")


def cost(analysis: Analysis) -> Markup | None:
    """Effect against training time over the baseline's, or nothing when no arm has a time ratio."""
    effects = [(e, e.time) for e in drawable(analysis.effects) if e.time and math.isfinite(e.time.value)]
    if not effects:
        return None
    d, margin = decimals(analysis), declared_margin(analysis)
    (left, right), (bottom, top) = (60.0, 740.0), (330.0, 16.0)
    ends = [v for _, t in effects for v in (t.low, t.value, t.high) if math.isfinite(v)]
    x = Scale(padded(min(1.0, *ends), max(1.0, *ends), 0.08), (left, right))
    y = Scale(effect_span([e for e, _ in effects], margin), (bottom, top))

    def inside(v: float) -> float:
        return y(min(max(v, y.data[0]), y.data[1]))

    xs, ys = ticks(*x.data, 7), ticks(*y.data, 5)
    parts = [_rect(left, right, y(-margin), y(margin), "margin")]
    parts += [_line(left, y(v), right, y(v), "grid") for v in ys]
    parts += [_text(left - 8, y(v) + 4, s, "tick", "end") for v, s in zip(ys, tick_labels(ys), strict=True)]
    parts += [_text(x(v), bottom + 18, f"{s}×", "tick", "middle") for v, s in zip(xs, tick_labels(xs), strict=True)]
    parts += [_line(left, y(0), right, y(0), "zero"), _line(x(1), top, x(1), bottom, "zero")]
    parts.append(_text((left + right) / 2, bottom + 38, "training time over the baseline’s", "quiet", "middle"))
    taken: list[tuple[float, float, float]] = []
    for e, t in sorted(effects, key=lambda pair: -abs(pair[0].mean)):
        tone = _tone(e, analysis.higher_is_better)
        cx, cy = x(t.value), inside(e.mean)
        marks: list[Any] = [
            tag("title", f"{e.arm}: {signed(e.mean, d)} {interval(e.low, e.high, d)} at {ratio(t)}, n = {e.n}"),
            _line(cx, inside(e.low), cx, inside(e.high), f"ci {tone}"),
        ]
        if math.isfinite(t.low):
            marks.append(_line(x(t.low), cy, x(t.high), cy, f"ci {tone}"))
        marks.append(tag("circle", cx=cx, cy=cy, r=4, class_=f"dot {tone}"))
        label = clip(e.arm, 28)
        width = 7.0 * len(label)
        start = cx + 8 if cx + 8 + width < right else cx - 8 - width
        box = (start, start + width, cy - 7)
        if all(box[1] < a or box[0] > b or abs(box[2] - h) > 14 for a, b, h in taken):
            taken.append(box)
            marks.append(_text(start, cy - 7, label, "label"))
        parts.append(tag("g", *marks))
    description = "; ".join(
        f"{e.arm} {signed(e.mean, d)} {interval(e.low, e.high, d)} at {ratio(t)}, n = {e.n}" for e, t in effects
    )
    return svg(750, bottom + 48, "Effect against training time", description, *parts, class_="cost")
