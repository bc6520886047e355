"""The effects of a study: its forest plot, its seeds, and its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from harness.analysis.types import Analysis, Effect
from harness.report.drawings.lanes import (
    BAR,
    Mark,
    declared_margin,
    drawable,
    effect_span,
    lane,
    tone_of,
    ways,
    whisker,
)
from harness.report.drawings.svg import (
    Scale,
    SignedLog,
    Span,
    clip,
    line,
    padded,
    rect,
    svg,
    tag,
    text,
    tick_labels,
    ticks,
)
from harness.report.text.numbers import confidence, decimals, interval, metric_name, number, signed


def interval_bar(effect: Effect, analysis: Analysis, span: Span) -> Markup:
    """The interval of one table row: margin band, zero line, mean and ends on an axis shared by the table."""
    drawn = Mark(effect.mean, effect.low, effect.high, tone_of(effect, analysis.higher_is_better))
    return lane([drawn], span, declared_margin(analysis), BAR)


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
    worse, better = ways(analysis.higher_is_better)
    parts += [text(left, 14, worse, "quiet"), text(right, 14, better, "quiet", "end")]
    parts += [text(710, top - 8, f"effect [{level} CI]", "quiet"), text(980, top - 8, "pairs", "quiet", "end")]
    for i, e in enumerate(effects):
        y = top + row * (i + 0.5)
        strong = "strong" if e.clear else ""
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
                *_for_all(e, x, y),
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


def _for_all(effect: Effect, x: Scale, y: float) -> list[Markup]:
    """The interval that holds for all arms at once, thin, where it is longer than the arm's own."""
    if not effect.high_all - effect.low_all > effect.high - effect.low:  # unknown ones are NaN
        return []
    low, high = x.data
    ends = [x(min(max(v, low), high)) for v in (effect.low_all, effect.high_all)]
    return [line(ends[0], y, ends[1], y, "ci all")]


def _log_scale(effects: Sequence[Effect], margin: float, out: Span) -> SignedLog:
    """The forest's other axis, on which a collapsed arm and a small effect have room beside each other."""
    ends = [v for e in effects for v in (e.low, e.high)]
    unit = margin or median(map(abs, ends)) / 4 or 1.0
    return SignedLog((min(*ends, -1.3 * unit), max(*ends, 1.3 * unit)), out, unit)


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
