"""Figures of a search's page. The shape of a mark tells a trial's state, so that colour is never alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from harness.report.drawings.fronts import stairs, unbeaten
from harness.report.drawings.svg import (
    Scale,
    Span,
    arm_class,
    arm_dash,
    clip,
    line,
    padded,
    path,
    svg,
    tag,
    text,
    tick_labels,
    ticks,
)
from harness.report.text.numbers import number, shown
from harness.values import SCALE_WORDS, SCALES, scale_of

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 400.0, 46.0, 392.0, 22.0, 214.0
FAILED = BOTTOM + 11
"""Trials without a value stand in a row of their own, under the axis."""


LEGAL = {"linear": (-math.inf, math.inf), "log": (0.0, math.inf), "log1m": (-math.inf, 1.0)}
"""Between which numbers a scale has a place for a value."""


@dataclass(frozen=True)
class TrialPoint:
    """A trial as it is drawn. `value` is its validation accuracy in percent, None when it failed."""

    number: int
    state: str
    params: Mapping[str, Any]
    value: float | None
    title: str


@dataclass(frozen=True)
class Trials:
    """All trials of an arm, which of them have a name, and the arm's place among the colours."""

    points: Sequence[TrialPoint]
    winner: int | None
    default: int | None
    arm: int

    @property
    def span(self) -> Span:
        """Range of the value axis, which settings that hardly train do not stretch (Tukey's lower fence)."""
        values = [p.value for p in self.points if p.value is not None]
        if not values:
            return 0.0, 100.0
        first, third = np.quantile(values, (0.25, 0.75))
        inside = [v for v in values if v >= first - 1.5 * (third - first)]
        return padded(min(inside), max(inside), 0.08)

    def name(self, number: int) -> str:
        """What a trial is called beside its mark: the winner, the default values, both or nothing."""
        names = [name for name, n in (("winner", self.winner), ("default", self.default)) if n == number]
        return ", ".join(names)


@dataclass(frozen=True)
class Axis:
    """A searched value as an axis: a range on one of the scales of a search, or choices in their order."""

    low: float = 0.0
    high: float = 1.0
    scale: str = "linear"
    choices: tuple[Any, ...] = ()

    @staticmethod
    def of(space: Mapping[str, Any]) -> Axis:
        """The axis of one entry of an arm's space."""
        if "choices" in space:
            return Axis(choices=tuple(space["choices"]))
        log = bool(space.get("log")) and space["low"] > 0
        return Axis(float(space["low"]), float(space["high"]), scale_of(log, bool(space.get("log1m"))))

    def share(self, value: Any) -> float | None:
        """Where a value lies between both ends, from 0 to 1 inside; None where the axis has no place for it."""
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices) if value in self.choices else None
        if not isinstance(value, int | float) or not LEGAL[self.scale][0] < value < LEGAL[self.scale][1]:
            return None
        low, high, at = map(SCALES[self.scale][0], (self.low, self.high, value))
        return (at - low) / ((high - low) or 1.0)

    def ticks(self, room: float) -> list[tuple[float, str]]:
        """Shares and labels of round values, or of every choice, in `room` drawing units."""
        if self.choices:
            fits = max(3, int(room / len(self.choices) / 6.5))
            return [((i + 0.5) / len(self.choices), clip(shown(c), fits)) for i, c in enumerate(self.choices)]
        if self.scale == "linear":
            values = ticks(self.low, self.high, 4)
            labels = tick_labels(values)
        else:
            low, high = sorted(1 - v if self.scale == "log1m" else v for v in (self.low, self.high))
            values = [1 - v if self.scale == "log1m" else v for v in _log_ticks(low, high)]
            labels = [shown(v) for v in values]
        return [(self.share(v) or 0.0, label) for v, label in zip(values, labels, strict=True)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside the range, with twice and five times them where the range is short."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{m}e{p}") for p in powers for m in steps]
    found = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    return found[:: 1 + len(found) // 6] if len(found) > 1 else [low, high]


def _frame(y: Scale, across: Sequence[tuple[float, str]], below: str, beside: str) -> list[Markup]:
    """Grid, ticks and names of both axes; `across` has the places and labels under the horizontal one."""
    up = ticks(*y.data, 5)
    parts = [line(LEFT, y(v), RIGHT, y(v), "grid") for v in up]
    parts += [text(LEFT - 6, y(v) + 4, s, "tick", "end") for v, s in zip(up, tick_labels(up), strict=True)]
    parts.append(line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"))
    parts += [text(x, BOTTOM + 30, label, "tick", "middle") for x, label in across]
    parts.append(text((LEFT + RIGHT) / 2, BOTTOM + 49, below, "quiet", "middle"))
    parts.append(text(0, 10, beside, "quiet"))
    return parts


def _mark(state: str, x: float, y: float, title: str) -> Markup:
    """A dot for a complete trial, an open triangle for a pruned one, a cross for a failed one."""
    label = tag("title", title)
    if state == "complete":
        return tag("circle", label, cx=x, cy=y, r=3.5, class_="trial")
    if state == "pruned":
        return tag("path", label, d=f"M{x:.1f} {y - 3.5:.1f}l4 7h-8z", class_="trial pruned")
    return tag("path", label, d=f"M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6", class_="trial failed")


def rings(places: Sequence[tuple[float, float, str]]) -> list[Markup]:
    """Rings with names around the winner and the default: the upper one's above it, the lower one's below."""
    parts = []
    for i, (x, y, name) in enumerate(sorted(places, key=lambda place: place[1])):
        side, anchor = (-8, "end") if x > RIGHT - 60 else (8, "start")
        class_ = "ring" if name.startswith("winner") else "ring default"
        parts.append(tag("circle", cx=x, cy=y, r=7.5, class_=class_))
        parts.append(text(x + side, y + (17 if i else -9), name, "label strong", anchor))
    return parts


def _marks(trials: Trials, y: Scale, x_of: Mapping[int, float]) -> list[Markup]:
    """The trials at their places, the winner and the default values with their names."""
    parts, named = [], []
    for p in trials.points:
        if p.number not in x_of:
            continue
        x, height = x_of[p.number], FAILED if p.value is None else y(max(p.value, y.data[0]))
        parts.append(_mark(p.state, x, height, p.title))
        if trials.name(p.number):
            named.append((x, height, trials.name(p.number)))
    return [tag("g", *parts, class_=arm_class(trials.arm)), *rings(named)]


VALUE = "validation accuracy, %"


def history(trials: Trials) -> Markup:
    """Validation accuracy of every trial in the order of asking, and the best complete one so far."""
    y = Scale(trials.span, (BOTTOM, TOP))
    last = max(p.number for p in trials.points)
    x = Scale(padded(0, last, 0.03), (LEFT, RIGHT))
    best, steps = -math.inf, ""
    for p in sorted(trials.points, key=lambda p: p.number):
        if p.state == "complete" and p.value is not None and p.value > best:
            best = p.value
            at = y(max(best, y.data[0]))
            steps += f"H{x(p.number):.1f}V{at:.1f}" if steps else f"M{x(p.number):.1f} {at:.1f}"
    parts = _frame(y, [(x(v), f"{v:.0f}") for v in ticks(0, last, 6) if v == int(v)], "trial", VALUE)
    if steps:
        parts.append(tag("path", d=f"{steps}H{RIGHT:.1f}", class_=f"mean best {arm_class(trials.arm)}"))
    parts += _marks(trials, y, {p.number: x(p.number) for p in trials.points})
    counts = {s: sum(p.state == s for p in trials.points) for s in ("complete", "pruned", "failed")}
    description = ", ".join(f"{n} {state}" for state, n in counts.items())
    if steps:
        description += f"; the best complete trial reaches {number(best)} %"
    return svg(WIDTH, BOTTOM + 56, "Validation accuracy of each trial", description, *parts, class_="panel")


def slice_plot(trials: Trials, name: str, space: Mapping[str, Any]) -> Markup:
    """Validation accuracy against one searched value, whatever the others were; a dashed line marks its default."""
    axis = Axis.of(space)
    y, x = Scale(trials.span, (BOTTOM, TOP)), Scale((0, 1), (LEFT + 8, RIGHT - 8))
    places = {}
    for p in trials.points:
        share = axis.share(p.params.get(name))
        if share is not None:
            # Equal choices would hide each other.
            places[p.number] = x(share) + (p.number * 7 % 11 - 5) * 1.8 * bool(axis.choices)
    parts = _frame(y, [(x(s), label) for s, label in axis.ticks(RIGHT - LEFT)], axis_name(name, axis), VALUE)
    default = axis.share(space.get("default"))
    if default is not None and -0.02 <= default <= 1.02:
        parts.append(line(x(default), TOP, x(default), BOTTOM, "default-line"))
    parts += _marks(Trials(trials.points, trials.winner, None, trials.arm), y, places)
    description = f"{len(places)} trials; default {shown(space.get('default'))}"
    won = next((p for p in trials.points if p.number == trials.winner), None)
    if won is not None:
        description += f", winner {shown(won.params.get(name))}"
    return svg(WIDTH, BOTTOM + 56, f"Validation accuracy against {name}", description, *parts, class_="panel")


def axis_name(name: str, axis: Axis) -> str:
    """What stands beside the axis of a searched value."""
    return f"{clip(name, 40)}{f' ({SCALE_WORDS[axis.scale]} scale)' if axis.scale != 'linear' else ''}"


@dataclass(frozen=True)
class Budget:
    """What an arm's best of k trials is expected to reach: mean and band at k = 1 to the number of its trials."""

    arm: int
    name: str
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def budget_plot(budgets: Sequence[Budget]) -> Markup:
    """Expected best validation accuracy against the number of trials. The axis fits the last four fifths."""
    most = max(len(b.mean) for b in budgets)
    late = [v for b in budgets for v in (*b.mean[most // 5 :], *b.low[most // 5 :], *b.high[most // 5 :])]
    y = Scale(padded(min(late), max(late)), (BOTTOM, TOP))
    x = Scale((1, max(most, 2)), (LEFT + 6, RIGHT - 6))
    at = [v for v in ticks(1, most, 6) if v == int(v)]
    at = at if 1 in at else [1, *(v for v in at if v > 0.06 * most + 1)]
    groups = []
    for b in reversed(budgets):  # the baseline last, on top
        colour, k = arm_class(b.arm), [x(i + 1) for i in range(len(b.mean))]
        low, middle, high = (list(zip(k, map(y, values), strict=True)) for values in (b.low, b.mean, b.high))
        ends = f"{b.name}: {number(b.mean[-1])} % [{number(b.low[-1])}, {number(b.high[-1])}] after {len(k)} trials"
        groups += [
            tag("path", d=f"{path([*low, *reversed(high)])}z", class_=f"band {colour}"),
            tag("path", tag("title", ends), d=path(middle), class_=f"mean {colour}", stroke_dasharray=arm_dash(b.arm)),
        ]
        if len(k) == 1:
            groups.append(tag("circle", cx=k[0], cy=y(b.mean[0]), r=3.5, class_=f"trial {colour}"))
    # A nested svg clips what leaves the frame without naming a clip path.
    view = f"{LEFT:g} {TOP:g} {RIGHT - LEFT:g} {BOTTOM - TOP:g}"
    inner = tag("svg", *groups, x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP, viewBox=view)
    description = "; ".join(
        f"{b.name} reaches {number(b.mean[-1])} % [{number(b.low[-1])}, {number(b.high[-1])}] with {len(b.mean)} trials"
        for b in budgets
    )
    frame = _frame(y, [(x(v), f"{v:.0f}") for v in at], "number of trials", f"expected best {VALUE}")
    title = "Expected best validation accuracy against the number of trials"
    return svg(WIDTH, BOTTOM + 56, title, description, *frame, inner, class_="panel")


def front_plot(trials: Trials, across: Mapping[int, float], name: str, front: Sequence[int]) -> Markup:
    """Validation accuracy against another objective; a line joins the trials of the front that none beats on both.

    Args:
        trials: of the arm.
        across: the other objective of each trial that has it, lower is better.
        name: of the other objective with its unit.
        front: numbers of the trials on the front.
    """
    known = [p for p in trials.points if p.state == "complete" and p.number in across]
    y = Scale(trials.span, (BOTTOM, TOP))
    x = Scale(padded(min(across[p.number] for p in known), max(across[p.number] for p in known)), (LEFT, RIGHT))
    at = ticks(*x.data, 5)
    parts = _frame(y, [(x(v), s) for v, s in zip(at, tick_labels(at), strict=True)], name, VALUE)
    best = [(across[p.number], p.value) for p in known if p.number in front and p.value is not None]
    # With three objectives, one of them may be beaten on the two that are drawn: the line passes it by.
    edge = [best[i] for i in unbeaten([(value, price) for price, value in best])]
    at_edge = [(x(a), y(max(b, y.data[0]))) for a, b in edge]
    if edge:
        parts.append(tag("path", d=path(stairs(at_edge)), class_=f"mean best {arm_class(trials.arm)}"))
    parts += _marks(
        Trials(known, trials.winner, trials.default, trials.arm), y, {p.number: x(across[p.number]) for p in known}
    )
    parts += [
        tag("circle", cx=x(a), cy=y(max(b, y.data[0])), r=5.5, class_=f"ring front {arm_class(trials.arm)}")
        for a, b in sorted(best)
    ]
    description = f"{len(known)} complete trials, {len(best)} of them on the front"
    return svg(WIDTH, BOTTOM + 56, f"Validation accuracy against {name}", description, *parts, class_="panel")


def share_bar(share: float) -> Markup:
    """A share of one as a bar."""
    bar = tag("rect", x=0, y=3, width=round(100 * max(share, 0.0), 1), height=10, class_="share")
    return tag("svg", bar, class_="bar", viewBox="0 0 100 16", aria_hidden="true")
