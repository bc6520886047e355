"""Figures as inline SVG from plain data. Colours are CSS classes, so one drawing suits light, dark, print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from markupsafe import Markup, escape

from harness.analysis.types import Analysis, Effect, Estimate
from harness.report.tables import clear_of_zero, confidence, decimals, interval, metric_name, number, signed

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


def svg(
    width: float,
    height: float,
    title: str,
    description: str,
    *children: object,
    class_: str = "",
    style: str | None = None,
) -> Markup:
    """A drawing that scales with its container, unless `style` says otherwise, and says in words what it shows."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        role="img",
        class_=class_ or None,
        viewBox=f"0 0 {width:g} {height:g}",
        style=style,
    )


@dataclass(frozen=True)
class Scale:
    """A linear map from data to drawing units."""

    data: Span
    out: Span

    def bend(self, value: float) -> float:
        """The value as the axis counts it."""
        return value

    def __call__(self, value: float) -> float:
        """Where a value is drawn."""
        (a, b), (c, d) = map(self.bend, self.data), self.out
        return c + (self.bend(value) - a) / ((b - a) or 1.0) * (d - c)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Round values inside the range with their labels, about `count` of them."""
        found = ticks(*self.data, count)
        return list(zip(found, tick_labels(found), strict=True))


@dataclass(frozen=True)
class SignedLog(Scale):
    """A map that is linear up to about `unit` on both sides of zero, and logarithmic beyond."""

    unit: float = 1.0

    def bend(self, value: float) -> float:
        """The value as the axis counts it."""
        return math.copysign(math.log1p(abs(value) / self.unit), value)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Zero, and on both sides powers of ten times 1, 2 and 5, as far apart as `count` wants them."""
        most = max(map(abs, self.data))
        first = math.floor(math.log10(self.unit))
        sizes = [m * 10.0**e for e in range(first, math.ceil(math.log10(most)) + 1) for m in (1, 2, 5)]
        every = [v for v in (*(-x for x in reversed(sizes)), 0.0, *sizes) if self.data[0] <= v <= self.data[1]]
        least = abs(self.out[1] - self.out[0]) / (1.5 * count)
        kept = [0.0]  # from zero outwards, so that it always has a label
        for v in sorted(every, key=abs):
            if all(abs(self(v) - self(k)) >= least for k in kept):
                kept.append(v)
        return [(v, f"{v:g}".replace("-", "−")) for v in sorted(kept)]


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


def rect(x0: float, x1: float, y0: float, y1: float, class_: str) -> Markup:
    """A rectangle between two corners."""
    return tag("rect", x=min(x0, x1), y=min(y0, y1), width=abs(x1 - x0), height=abs(y1 - y0), class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str, *children: object) -> Markup:
    """A straight line."""
    return tag("line", *children, x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    """Words on a base line; `anchor` is start, middle or end."""
    return tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def path(points: Sequence[tuple[float, ...]]) -> str:
    """An open polyline through the finite points."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points if math.isfinite(b))


class Places:
    """Where names still have room beside the dots of a plot."""

    def __init__(self, dots: Sequence[tuple[float, float]], across: Span, down: Span) -> None:
        self.across, self.down = across, down
        self.boxes = [(a - 4, a + 4, b - 4, b + 4) for a, b in dots]

    def name(self, cx: float, cy: float, content: str, class_: str) -> list[Markup]:
        """A name beside the dot at (cx, cy), or nothing where all sides are taken."""
        width = 7.6 * len(content)  # what a wide font takes
        for at, base, anchor in (
            (cx + 8, cy + 4, "start"),
            (cx + 6, cy - 8, "start"),
            (cx + 6, cy + 16, "start"),
            (cx - 8, cy + 4, "end"),
        ):
            x0, y0, y1 = at if anchor == "start" else at - width, base - 10, base + 2
            x1 = x0 + width
            inside = self.across[0] <= x0 and x1 <= self.across[1] and self.down[0] <= y0 and y1 <= self.down[1]
            if inside and not any(x0 < b and a < x1 and y0 < d and c < y1 for a, b, c, d in self.boxes):
                self.boxes.append((x0, x1, y0, y1))
                return [text(at, base, content, class_, anchor)]
        return []


def tone_of(effect: Effect | Estimate, higher_is_better: bool) -> str:
    """CSS class of an interval: `open` while it holds zero, else the direction."""
    if not clear_of_zero(effect.low, effect.high):
        return "open"
    return "better" if (effect.mean > 0) == higher_is_better else "worse"


def whisker(effect: Effect | Estimate, x: Scale, y: float, tone: str) -> list[Markup]:
    """An interval with its mean, filled when clear of zero; arrows where it leaves the axis."""
    low, high = x.data
    a, b = (x(min(max(v, low), high)) for v in (effect.low, effect.high))
    marks = [line(a, y, b, y, f"ci {tone}")]
    for beyond, at, way in ((effect.low < low, a, 1), (effect.high > high, b, -1)):
        if beyond:
            marks.append(tag("path", d=f"M{at:.1f} {y:.1f}l{5 * way} -4v8z", class_=f"arrow {tone}"))
        elif low <= (effect.low if way == 1 else effect.high) <= high:
            marks.append(line(at, y - 4, at, y + 4, f"ci {tone}"))
    if low <= effect.mean <= high:
        marks.append(tag("circle", cx=x(effect.mean), cy=y, r=4, class_=f"dot {tone}"))
    return marks


def interval_bar(effect: Effect, analysis: Analysis, span: Span) -> Markup:
    """The interval of one table row: margin band, zero line, mean and ends on an axis shared by the table."""
    x, margin = Scale(span, (2, 98)), declared_margin(analysis)
    return tag(
        "svg",
        rect(x(-margin), x(margin), 0, 20, "margin"),
        line(x(0), 0, x(0), 20, "zero"),
        *whisker(effect, x, 10, tone_of(effect, analysis.higher_is_better)),
        class_="bar",
        viewBox="0 0 100 20",
        aria_hidden="true",
    )


def tick_reach(effects: Sequence[Effect]) -> float:
    """The difference that a full tick of `seed_ticks` stands for; larger ones of a few collapsed arms are cut."""
    sizes = sorted(abs(d) for e in effects for d in e.differences if d)
    return min(sizes[-1], 2 * median(sizes)) if sizes else 1.0


def seed_ticks(effect: Effect, seeds: Sequence[int], analysis: Analysis, reach: float) -> Markup:
    """The differences of one table row, a tick for each planned seed: up for gains in the metric, down for losses.

    Args:
        effect: with at least one pair.
        seeds: the seeds of the study, whose places all rows share; a seed without a pair leaves a gap.
        analysis: of the study.
        reach: the difference that a full tick stands for; see `tick_reach`.
    """
    d, step = decimals(analysis), min(10.0, max(70 / len(seeds), 3.5))
    found = dict(zip(effect.seeds, effect.differences, strict=True))
    strokes: dict[str, list[str]] = {"better": [], "worse": [], "tie": []}
    for i, seed in enumerate(seeds):
        if seed in found:
            size = max(-1.0, min(1.0, found[seed] / reach)) * 11
            way = "tie" if not found[seed] else "better" if (size > 0) == analysis.higher_is_better else "worse"
            at = (i + 0.5) * step
            strokes[way].append(f"M{at - 1.5:g} 12h3" if way == "tie" else f"M{at:g} 12v{-size:.1f}")
    told = ", ".join(f"{seed}: {signed(v, d)}" for seed, v in found.items())
    width = len(seeds) * step
    return tag(
        "svg",
        tag("title", f"Difference by seed. {told}"),
        line(0, 12, width, 12, "zero"),
        *(tag("path", d="".join(marks), class_=f"seed {way}") for way, marks in strokes.items() if marks),
        class_="seeds",
        role="img",
        viewBox=f"0 0 {width:g} 24",
        style=f"width:{width:g}px",
    )


def forest(analysis: Analysis, log: bool = False) -> Markup:
    """Effects with intervals, best first, against zero, the margin and what each n could detect.

    Args:
        analysis: with at least one effect that has an interval.
        log: whether the axis is logarithmic beyond the margin, and then as long as the longest interval.
    """
    effects = sorted(drawable(analysis.effects), key=lambda e: e.mean, reverse=analysis.higher_is_better)
    d, margin, row, top = decimals(analysis), declared_margin(analysis), 28, 40
    level = confidence(analysis)
    bottom = top + row * len(effects)
    room = min(max((len(e.arm) for e in effects), default=0), 40)
    left, right = max(190.0, 7.3 * room + 22), 690.0
    span = (left, right)
    x = _log_scale(effects, margin, span) if log else Scale(effect_span(effects, margin), span)
    parts = [rect(x(-margin), x(margin), top, bottom, "margin")]
    for v, label in x.ticks(7):
        parts += [line(x(v), top, x(v), bottom, "grid"), text(x(v), bottom + 18, label, "tick", "middle")]
        parts += [text(x(v), top - 8, label, "tick", "middle")]
    parts.append(line(x(0), top - 4, x(0), bottom, "zero"))
    worse, better = ("← worse", "better →") if analysis.higher_is_better else ("← better", "worse →")
    parts += [text(left, 14, worse, "quiet"), text(right, 14, better, "quiet", "end")]
    parts += [text(710, top - 8, f"effect [{level} CI]", "quiet"), text(980, top - 8, "pairs", "quiet", "end")]
    for i, e in enumerate(effects):
        y = top + row * (i + 0.5)
        strong = "strong" if clear_of_zero(e.low, e.high) else ""
        numbers = f"{signed(e.mean, d)} {interval(e.low, e.high, d)}"
        tick = [
            line(x(v), y - 9, x(v), y + 9, "mde") for v in (-e.mde, e.mde) if x.data[0] <= v <= x.data[1]
        ]  # NaN compares false, so an unknown MDE draws nothing
        parts.append(
            tag(
                "g",
                tag("title", f"{e.arm}: {numbers}, n = {e.n}; {e.verdict.label}"),
                text(left - 12, y + 4, clip(e.arm, max(room, 23)), "", "end"),
                *tick,
                *whisker(e, x, y, tone_of(e, analysis.higher_is_better)),
                text(710, y + 4, numbers, strong),
                text(980, y + 4, str(e.n), "", "end"),
            )
        )
    parts.append(
        text(
            (left + right) / 2,
            bottom + 38,
            f"effect on {metric_name(analysis.metric)}{f' ({analysis.unit})' if analysis.unit else ''}"
            f"{', logarithmic' if log else ''}",
            "quiet",
            "middle",
        )
    )
    description = "; ".join(f"{e.arm} {signed(e.mean, d)} {interval(e.low, e.high, d)}, n = {e.n}" for e in effects)
    return svg(990, bottom + 48, f"Effects with {level} confidence intervals", description, *parts, class_="forest")


def _log_scale(effects: Sequence[Effect], margin: float, out: Span) -> SignedLog:
    """The forest's other axis, on which a collapsed arm and a small effect have room beside each other."""
    ends = [v for e in effects for v in (e.low, e.high)]
    unit = margin or median(map(abs, ends)) / 4 or 1.0
    return SignedLog((min(*ends, -1.3 * unit), max(*ends, 1.3 * unit)), out, unit)


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
    parts = [text(8, 16, clip(effect.arm, 36), "strong")]
    for scale, edge, anchor in ((y, left - 20, "end"), (z, 286.0, "start")):
        at = ticks(*scale.data, 4)
        parts += [text(edge, scale(v) + 4, s, "tick", anchor) for v, s in zip(at, tick_labels(at), strict=True)]
    parts += [
        rect(axis - 44, 280, z(-margin), z(margin), "margin"),
        line(axis - 44, z(0), 280, z(0), "zero"),
    ]
    sign = 1 if analysis.higher_is_better else -1
    for i, (seed, b, t) in enumerate(zip(effect.seeds, effect.base, effect.treated, strict=True)):
        way = "better" if sign * (t - b) > 0 else "worse"
        label = tag("title", f"seed {seed}: {number(b, d)} → {number(t, d)} ({signed(t - b, d)})")
        parts.append(line(left, y(b), right, y(t), f"pair {way}", label))
        parts.append(tag("circle", label, cx=axis - 24 + 6 * (i % 3), cy=z(t - b), r=3, class_=f"point {way}"))
    low, high = z(effect.low), z(effect.high)
    tone = tone_of(effect, analysis.higher_is_better)
    parts += [
        line(axis + 30, low, axis + 30, high, f"ci {tone}"),
        tag("circle", cx=axis + 30, cy=z(effect.mean), r=4, class_=f"dot {tone}"),
        text(left, bottom + 20, "baseline", "tick", "middle"),
        text(right, bottom + 20, "arm", "tick", "middle"),
        text(axis + 4, bottom + 20, "difference", "tick", "middle"),
        text(
            8,
            bottom + 40,
            f"{signed(effect.mean, d)} {interval(effect.low, effect.high, d)}, n = {effect.n}",
            "quiet",
        ),
    ]
    description = f"Mean difference {signed(effect.mean, d)} {interval(effect.low, effect.high, d)}, n = {effect.n}."
    return svg(320, bottom + 48, f"{effect.arm} against baseline, seed by seed", description, *parts, class_="pairs")
