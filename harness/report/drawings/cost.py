"""What each gain costs in training time, and the arms that are worth considering: the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.analysis.types import Analysis, Effect, Ratio
from harness.experiment import BASELINE
from harness.report.drawings.fronts import stairs, unbeaten
from harness.report.drawings.lanes import declared_margin, drawable, effect_span, tone_of
from harness.report.drawings.svg import LogScale, Places, Scale, clip, line, padded, path, rect, svg, tag, text
from harness.report.text.numbers import decimals, interval, metric_name, ratio, signed

CROWDED = 30
"""From as many arms on, the intervals are drawn faintly and only some arms have their name beside them."""


@dataclass(frozen=True)
class Option:
    """A way to train: the baseline (no effect, time 1) or an arm. `gain` is positive where it is better."""

    name: str
    gain: float
    time: float
    effect: Effect | None = None


def options(analysis: Analysis) -> list[Option]:
    """The baseline and every arm with an interval and a time ratio of which no run diverged."""
    sign = 1 if analysis.higher_is_better else -1
    return [Option(BASELINE, 0.0, 1.0)] + [
        Option(e.arm, sign * e.mean, e.time.value, e)
        for e in drawable(analysis.effects)
        if e.time and math.isfinite(e.time.value) and not any(e.lost)
    ]


def front(found: Sequence[Option]) -> list[Option]:
    """The options that no other beats on gain and time, the fastest first."""
    return [found[i] for i in unbeaten([(o.gain, o.time) for o in found])]


def told(o: Option, analysis: Analysis) -> str:
    """An option in words, with its intervals and n."""
    if o.effect is None:
        return o.name
    e, d = o.effect, decimals(analysis)
    return f"{o.name} {signed(e.mean, d)} {interval(e.low, e.high, d)} at {ratio(e.time)}, n = {e.n}"


def cost(analysis: Analysis) -> Markup | None:
    """Effect against training time over the baseline's, or nothing when no arm has a time ratio."""
    found = options(analysis)
    arms = [(o, o.effect, o.effect.time) for o in found if o.effect and o.effect.time]
    if not arms:
        return None
    best = front(found)
    margin = declared_margin(analysis)
    (left, right), (bottom, top) = (60.0, 850.0), (412.0, 28.0)
    ends = [v for _, _, t in arms for v in (t.low, t.value, t.high) if math.isfinite(v) and v > 0]
    low, high = padded(math.log(min(1.0, *ends)), math.log(max(1.0, *ends)), 0.08)
    x = LogScale((math.exp(low), math.exp(high)), (left, right))
    y = Scale(effect_span([e for _, e, _ in arms], margin), (bottom, top))

    parts = [rect(left, right, y(-margin), y(margin), "margin")]
    for v, label in y.ticks():
        parts += [line(left, y(v), right, y(v), "grid"), text(left - 8, y(v) + 4, label, "tick", "end")]
    parts += [text(x(v), bottom + 20, f"{label}×", "tick", "middle") for v, label in x.ticks(7)]
    parts += [line(left, y(0), right, y(0), "zero"), line(x(1), top, x(1), bottom, "zero")]
    unit = f" ({analysis.unit})" if analysis.unit else ""
    parts.append(text(left, top - 12, f"effect on {metric_name(analysis.metric)}{unit}", "quiet"))
    parts.append(text((left + right) / 2, bottom + 42, "training time over the baseline’s", "quiet", "middle"))
    at = {o.name: (x(o.time), _inside(o.effect.mean if o.effect else 0.0, y)) for o in found}
    parts.append(tag("path", d=path(stairs([at[o.name] for o in best])), class_="pareto"))

    crowded = len(arms) >= CROWDED
    for o, e, t in sorted(arms, key=lambda arm: arm[0] in best):  # the front on top
        parts.append(_mark(o, e, t, (x, y), analysis, "faint" if crowded and o not in best else ""))
    parts.append(tag("circle", tag("title", BASELINE), cx=x(1), cy=y(0), r=5, class_="dot base"))
    # Names come last, over everything: the front's first, then those of the largest effects that find room.
    places = Places(list(at.values()), (left, right), (top, bottom))
    for o in sorted(found, key=lambda o: (o not in best, -abs(o.gain))):
        parts += places.name(*at[o.name], clip(o.name, 28), "label strong" if o in best else "label")
    description = "; ".join(told(o, analysis) for o, _, _ in arms)
    return svg(860, bottom + 52, "Effect against training time", description, *parts, class_="cost")


def _inside(v: float, y: Scale) -> float:
    return y(min(max(v, y.data[0]), y.data[1]))


def _mark(o: Option, e: Effect, t: Ratio, axes: tuple[Scale, Scale], analysis: Analysis, faint: str) -> Markup:
    """An arm: both intervals and its mean, an arrow where that leaves the axis."""
    (x, y), tone = axes, tone_of(e, analysis.higher_is_better)
    cx, cy = x(t.value), _inside(e.mean, y)
    marks: list[Any] = [tag("title", told(o, analysis))]
    marks.append(line(cx, _inside(e.low, y), cx, _inside(e.high, y), f"ci {tone} {faint}"))
    if math.isfinite(t.low) and t.low > 0:
        marks.append(line(x(t.low), cy, x(t.high), cy, f"ci {tone} {faint}"))
    if y.data[0] <= e.mean <= y.data[1]:
        marks.append(tag("circle", cx=cx, cy=cy, r=4, class_=f"dot {tone}"))
    else:
        way = 1 if e.mean < y.data[0] else -1
        marks.append(tag("path", d=f"M{cx - 4:.1f} {cy - 6 * way:.1f}h8l-4 {6 * way}z", class_=f"arrow {tone}"))
    return tag("g", *marks)
