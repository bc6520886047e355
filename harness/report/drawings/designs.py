"""Figures of designs in which tricks meet: interactions, sizes of all effects, and the steps of a stack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from statistics import median

from markupsafe import Markup
from scipy.special import ndtri

from harness.analysis.types import DesignAnalysis, Effect, Estimate
from harness.report.drawings.lanes import tone_of, whisker
from harness.report.drawings.svg import Places, Scale, clip, line, padded, rect, svg, tag, text
from harness.report.text.numbers import clear_of_zero, interval, signed

LABELLED = 6
"""Effects with a name in the half-normal plot."""

SHADES = 5
"""Steps of colour in the map of interactions."""

CELL = (132.0, 64.0)


def words(e: Estimate | Effect, digits: int) -> str:
    """An estimate with its interval and n."""
    return f"{signed(e.mean, digits)} {interval(e.low, e.high, digits)}, n = {e.n}"


def finite(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Those that have an interval."""
    return [e for e in estimates if math.isfinite(e.low) and math.isfinite(e.high)]


def by_pair(design: DesignAnalysis) -> dict[tuple[str, str], tuple[Estimate, str]]:
    """The interaction of each pair of factors and, where the arms only tell a sum of interactions, its other parts.

    A pair that enters the sum with a minus sign has its estimate turned round.
    """
    names = {f"{a}:{b}": (a, b) for a, b in combinations(design.factors, 2)}
    found = {}
    for e in finite(design.interactions):
        chain = e.name.split(" = ")
        for part in chain:
            turned = replace(e, mean=-e.mean, low=-e.high, high=-e.low) if part.startswith("-") else e
            others = ", ".join(p.removeprefix("-") for p in chain if p != part)
            if part.removeprefix("-") in names:
                found[names[part.removeprefix("-")]] = (turned, others)
    return found


def interaction_map(design: DesignAnalysis, digits: int) -> Markup | None:
    """Every pair of factors as a cell with its interaction; the diagonal has what each factor does.

    That is its main effect where the design estimates one, else its effect alone. Nothing where no pair has
    an interaction with an interval.
    """
    pairs = by_pair(design)
    if not pairs:
        return None
    alone = {e.name: e for e in finite(design.fit.main if design.fit else design.one_at_a_time)}
    own = "main effect" if design.fit else "alone"
    most = max(abs(e.mean) for e in (*(e for e, _ in pairs.values()), *alone.values())) or 1.0
    (width, height), left, top, k = CELL, 150.0, 30.0, len(design.factors)
    parts = []
    for i, name in enumerate(design.factors):
        parts.append(text(left - 10, top + (i + 0.5) * height + 4, clip(name, 20), "", "end"))
        parts.append(text(left + (i + 0.5) * width, top - 12, clip(name, 18), "", "middle"))
        for j, other in enumerate(design.factors[: i + 1]):
            place = (left + j * width, top + i * height)
            if i == j:
                found, title, note = alone.get(name), f"{name}, {own}", own
            else:
                found, others = pairs.get((other, name), (None, ""))
                title, note = f"{other} with {name}", f"with {others}" if others else ""
            parts.append(_cell(found, place, (title, note), most, (digits, design.higher_is_better), own=i == j))
    description = "; ".join(f"{a} with {b} {words(e, digits)}" for (a, b), (e, _) in pairs.items())
    title = "Interactions of every pair of tricks"
    size = (left + k * width + 4, top + k * height + 4)
    return svg(*size, title, description, *parts, class_="map", style=f"width:{size[0]:g}px")


def _cell(
    e: Estimate | None, at: tuple[float, float], texts: tuple[str, str], most: float, how: tuple[int, bool], own: bool
) -> Markup:
    """A cell: shade for the size, sign and arrow for the direction, bold where the interval excludes zero."""
    (x, y), (width, height), (title, note), (digits, higher) = at, CELL, texts, how
    middle = x + width / 2
    if e is None:
        box = rect(x + 1, x + width - 1, y + 1, y + height - 1, "pair-cell none")
        return tag("g", tag("title", f"{title}: not estimated"), box, text(middle, y + 36, "–", "quiet", "middle"))
    good = (e.mean > 0) == higher
    shade = math.ceil(SHADES * abs(e.mean) / most)
    colour = f"pair-cell {'better' if good else 'worse'} s{shade}{' own' if own else ''}"
    arrow = "" if not e.mean else "▲ " if good else "▼ "
    strong = "strong" if clear_of_zero(e.low, e.high) else ""
    return tag(
        "g",
        tag("title", f"{title}: {words(e, digits)}{f'; {note}' if note and not own else ''}"),
        rect(x + 1, x + width - 1, y + 1, y + height - 1, colour),
        text(middle, y + (24 if note else 30), f"{arrow}{signed(e.mean, digits)}", strong, "middle"),
        text(middle, y + (41 if note else 47), interval(e.low, e.high, digits), "small", "middle"),
        *([text(middle, y + 56, clip(note, 24), "small", "middle")] if note else []),
    )


def half_normal(design: DesignAnalysis, digits: int) -> Markup | None:
    """Sizes of all effects of a balanced factorial against the quantiles of a half-normal distribution.

    Interactions are halved, which gives every effect the spread of a main effect. The line is where effects
    of nothing but noise would lie; its slope is Lenth's pseudo standard error (1989). Nothing where the
    design is no factorial, or where arms are missing, so that effects differ in their spread.
    """
    if design.fit is None or design.fit.not_estimable:
        return None
    halved = [replace(e, mean=e.mean / 2, low=e.low / 2, high=e.high / 2) for e in design.fit.interactions]
    effects = sorted(finite([*design.fit.main, *halved]), key=lambda e: abs(e.mean))
    if len(effects) < 3:
        return None
    quantiles = [float(ndtri(0.5 + (i + 0.5) / len(effects) / 2)) for i in range(len(effects))]
    sizes = [abs(e.mean) for e in effects]
    error = pseudo_error(sizes)
    (left, right), (bottom, top) = (60.0, 560.0), (312.0, 28.0)
    x, y = Scale((0.0, 1.12 * quantiles[-1]), (left, right)), Scale((0.0, 1.12 * max(sizes[-1], 1e-9)), (bottom, top))
    parts = []
    for v, label in y.ticks():
        parts += [line(left, y(v), right, y(v), "grid"), text(left - 8, y(v) + 4, label, "tick", "end")]
    parts += [text(x(v), bottom + 18, label, "tick", "middle") for v, label in x.ticks()]
    end = min(x.data[1], y.data[1] / error) if error else x.data[1]
    parts += [line(x(0), y(0), x(end), y(error * end), "noise"), line(left, bottom, right, bottom, "axis")]
    at = [(x(q), y(abs(e.mean))) for e, q in zip(effects, quantiles, strict=True)]
    for e, place in zip(effects, at, strict=True):
        tone = tone_of(e, design.higher_is_better)
        what = "half the interaction" if ":" in e.name else "main effect"
        told = tag("title", f"{e.name}, {what}: {words(e, digits)}")
        parts.append(tag("circle", told, cx=place[0], cy=place[1], r=5, class_=f"dot {tone}"))
    places = Places(at, (left, right + 60), (top, bottom))
    for e, place in list(zip(effects, at, strict=True))[: -LABELLED - 1 : -1]:
        parts += places.name(*place, clip(e.name.replace(":", " × "), 36), "label")
    unit = f" ({design.unit})" if design.unit else ""
    parts.append(text(left, top - 12, f"size of the effect{unit}", "quiet"))
    parts.append(text((left + right) / 2, bottom + 40, "half-normal quantile", "quiet", "middle"))
    description = "; ".join(f"{e.name} {words(e, digits)}" for e in reversed(effects))
    return svg(620, bottom + 48, "Sizes of effects against half-normal quantiles", description, *parts, class_="half")


def pseudo_error(sizes: Sequence[float]) -> float:
    """Lenth's pseudo standard error: from the sizes of effects, most of which are noise."""
    first = 1.5 * median(sizes)
    return 1.5 * median([s for s in sizes if s <= 2.5 * first])


def waterfall(design: DesignAnalysis, total: Effect | None, digits: int) -> Markup | None:
    """The steps of a stack, each from where the one before ended, with the interval of its paired difference.

    Args:
        design: with steps, or nothing is drawn.
        total: the full stack against the baseline, for the last row; None where it has no interval.
        digits: decimals of the numbers.
    """
    steps = finite(design.steps)
    if not steps or len(steps) < len(design.steps):
        return None
    before = [0.0]
    for e in steps:
        before.append(before[-1] + e.mean)
    shifted = [replace(e, mean=b + e.mean, low=b + e.low, high=b + e.high) for b, e in zip(before, steps, strict=False)]
    rows: list[tuple[str, float, Estimate | Effect, Estimate | Effect]] = [
        (f"+ {e.name}", start, e, end) for start, e, end in zip(before, steps, shifted, strict=False)
    ]
    rows += [("full stack", 0.0, total, total)] if total else []
    (left, right), row, top = (190.0, 690.0), 34.0, 26.0
    ends = [end for *_, end in rows]
    x = Scale(padded(min(0.0, *(e.low for e in ends)), max(0.0, *(e.high for e in ends))), (left, right))
    bottom = top + row * (len(rows) + 1)
    parts = [text(710, 14, "change [interval]", "quiet"), text(980, 14, "pairs", "quiet", "end")]
    for v, label in x.ticks(7):
        parts += [line(x(v), top, x(v), bottom, "grid"), text(x(v), bottom + 18, label, "tick", "middle")]
    parts += [line(x(0), top, x(0), bottom, "zero"), text(178, top + row / 2 + 4, "baseline", "strong", "end")]
    for i, (name, start, step, end) in enumerate(rows, 1):
        y, last = top + row * (i + 0.5), step is total
        way = "better" if (step.mean > 0) == design.higher_is_better else "worse"
        strong = "strong" if clear_of_zero(step.low, step.high) else ""
        parts.append(
            tag(
                "g",
                tag("title", f"{name}: {words(step, digits)}"),
                *([] if last else [line(x(start), y - row + 9, x(start), y + 9, "link")]),
                rect(x(start), x(start + step.mean), y - 9, y + 9, f"step {way}{' total' if last else ''}"),
                *whisker(end, x, y, tone_of(step, design.higher_is_better)),
                text(178, y + 4, clip(name, 24), "strong" if last else "", "end"),
                text(710, y + 4, f"{signed(step.mean, digits)} {interval(step.low, step.high, digits)}", strong),
                text(980, y + 4, str(step.n), "", "end"),
            )
        )
    unit = f" ({design.unit})" if design.unit else ""
    parts.append(text(440, bottom + 38, f"change from the baseline{unit}", "quiet", "middle"))
    description = "; ".join(f"{name} {words(e, digits)}" for name, _, e, _ in rows)
    return svg(990, bottom + 48, "Steps of the stack", description, *parts, class_="forest")
