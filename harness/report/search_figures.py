"""Figures of a search's page. The shape of a mark tells a trial's state, so that colour is never alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from harness.analysis.types import Analysis, Effect
from harness.report.figures import (
    Scale,
    Span,
    arm_class,
    arm_dash,
    clip,
    declared_margin,
    effect_span,
    line,
    padded,
    path,
    rect,
    svg,
    tag,
    text,
    tick_labels,
    ticks,
    whisker,
)
from harness.report.tables import decimals, interval, number, signed

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 400.0, 46.0, 392.0, 22.0, 214.0
FAILED = BOTTOM + 11
"""Trials without a value stand in a row of their own, under the axis."""

LEVELS = 6
"""Shades of the map of two values."""
CELLS = (30, 24)
"""Columns and rows of its field."""
BANDWIDTH = 0.1
"""Standard deviation of the field's weights as a share of each range; the field ends at twice that from a trial."""
FEWEST = 8
"""Complete trials from which a field is drawn."""


def shown(value: Any) -> str:
    """A hyperparameter's value as people write it: three significant digits, a true minus sign."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if not isinstance(value, float):
        return str(value)
    mantissa, e, power = f"{value:.3g}".partition("e")
    return (f"{mantissa}e{int(power)}" if e else mantissa).replace("-", "−")


@dataclass(frozen=True)
class Point:
    """A trial as it is drawn. `value` is its validation accuracy in percent, None when it failed."""

    number: int
    state: str
    params: Mapping[str, Any]
    value: float | None
    title: str


@dataclass(frozen=True)
class Trials:
    """All trials of an arm, which of them have a name, and the arm's place among the colours."""

    points: Sequence[Point]
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


@dataclass(frozen=True)
class Axis:
    """A searched value as an axis: a range, linear or logarithmic, or choices in their order."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @staticmethod
    def of(space: Mapping[str, Any]) -> Axis:
        """The axis of one entry of an arm's space."""
        if "choices" in space:
            return Axis(choices=tuple(space["choices"]))
        return Axis(float(space["low"]), float(space["high"]), bool(space.get("log")) and space["low"] > 0)

    def share(self, value: Any) -> float | None:
        """Where a value lies between both ends, from 0 to 1 inside; None where the axis has no place for it."""
        if self.choices:
            return (self.choices.index(value) + 0.5) / len(self.choices) if value in self.choices else None
        if not isinstance(value, int | float) or (self.log and value <= 0):
            return None
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / ((high - low) or 1.0)

    def ticks(self, room: float) -> list[tuple[float, str]]:
        """Shares and labels of round values, or of every choice, in `room` drawing units."""
        if self.choices:
            fits = max(3, int(room / len(self.choices) / 6.5))
            return [((i + 0.5) / len(self.choices), clip(shown(c), fits)) for i, c in enumerate(self.choices)]
        values = _log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, 4)
        labels = [shown(v) for v in values] if self.log else tick_labels(values)
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


def _names(places: Sequence[tuple[float, float, str]]) -> list[Markup]:
    """Rings with names around the winner and the default: the upper one's above it, the lower one's below."""
    parts = []
    for i, (x, y, name) in enumerate(sorted(places, key=lambda place: place[1])):
        side, anchor = (-8, "end") if x > RIGHT - 60 else (8, "start")
        class_ = "ring" if name.startswith("winner") else "ring default"
        parts.append(tag("circle", cx=x, cy=y, r=7.5, class_=class_))
        parts.append(text(x + side, y + (17 if i else -9), name, "label strong", anchor))
    return parts


def _name(trials: Trials, number: int) -> str:
    """What a trial is called beside its mark: the winner, the default values, both or nothing."""
    names = [name for name, n in (("winner", trials.winner), ("default", trials.default)) if n == number]
    return ", ".join(names)


def _marks(trials: Trials, y: Scale, x_of: Mapping[int, float]) -> list[Markup]:
    """The trials at their places, the winner and the default values with their names."""
    parts, named = [], []
    for p in trials.points:
        if p.number not in x_of:
            continue
        x, height = x_of[p.number], FAILED if p.value is None else y(max(p.value, y.data[0]))
        parts.append(_mark(p.state, x, height, p.title))
        if _name(trials, p.number):
            named.append((x, height, _name(trials, p.number)))
    return [tag("g", *parts, class_=arm_class(trials.arm)), *_names(named)]


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
    parts = _frame(y, [(x(s), label) for s, label in axis.ticks(RIGHT - LEFT)], _axis_name(name, axis), VALUE)
    default = axis.share(space.get("default"))
    if default is not None and -0.02 <= default <= 1.02:
        parts.append(line(x(default), TOP, x(default), BOTTOM, "default-line"))
    parts += _marks(Trials(trials.points, trials.winner, None, trials.arm), y, places)
    description = f"{len(places)} trials; default {shown(space.get('default'))}"
    won = next((p for p in trials.points if p.number == trials.winner), None)
    if won is not None:
        description += f", winner {shown(won.params.get(name))}"
    return svg(WIDTH, BOTTOM + 56, f"Validation accuracy against {name}", description, *parts, class_="panel")


def _axis_name(name: str, axis: Axis) -> str:
    return f"{clip(name, 40)}{' (log scale)' if axis.log else ''}"


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


def landscape(trials: Trials, spaces: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """Complete trials over two searched ranges, shaded by value, on a coarse field of their weighted means.

    Nothing is drawn far from all trials, where the field would be invented. None with fewer than two trials.
    """
    (x_name, x_axis), (y_name, y_axis) = ((name, Axis.of(space)) for name, space in spaces.items())
    found = [
        (p, x_axis.share(p.params.get(x_name)), y_axis.share(p.params.get(y_name)))
        for p in trials.points
        if p.state == "complete" and p.value is not None
    ]
    known = [(p, a, b) for p, a, b in found if a is not None and b is not None]
    if len(known) < 2:
        return None
    spots = np.array([(a, b, p.value) for p, a, b in known], dtype=float)
    bounds = np.quantile(spots[:, 2], np.linspace(0, 1, LEVELS + 1))
    x, y = Scale((0, 1), (LEFT + 8, RIGHT - 8)), Scale((0, 1), (BOTTOM, TOP))
    parts = _cells(_levels(_field(spots), bounds), x, y) if len(known) >= FEWEST else []
    parts.append(
        tag("rect", x=LEFT, y=TOP - 6, width=RIGHT - LEFT, height=BOTTOM - TOP + 12, class_="axis", fill="none")
    )
    parts += [text(x(s), BOTTOM + 22, t, "tick", "middle") for s, t in x_axis.ticks(RIGHT - LEFT)]
    parts += [text(LEFT - 6, y(s) + 4, t, "tick", "end") for s, t in y_axis.ticks(40)]
    parts += [
        text((LEFT + RIGHT) / 2, BOTTOM + 41, _axis_name(x_name, x_axis), "quiet", "middle"),
        text(0, 10, _axis_name(y_name, y_axis), "quiet"),
    ]
    for (p, a, b), shade in zip(known, _levels(spots[:, 2], bounds).tolist(), strict=True):
        parts.append(tag("circle", tag("title", p.title), cx=x(a), cy=y(b), r=4.5, class_=f"shade-{shade} spot"))
    named = [(x(a), y(b), _name(trials, p.number)) for p, a, b in known if _name(trials, p.number)]
    parts += [*_names(named), *_key(bounds)]
    description = (
        f"{len(known)} complete trials; stronger colour is better, from {number(bounds[0])} % to {number(bounds[-1])} %"
    )
    title = f"Validation accuracy over {x_name} and {y_name}"
    return svg(WIDTH, BOTTOM + 78, title, description, *parts, class_="panel")


def _levels(values: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The shade of each value, -1 for NaN. The shades hold equally many trials, so the best ones differ in theirs."""
    found = np.clip(np.searchsorted(bounds, values, side="right") - 1, 0, LEVELS - 1)
    return np.where(np.isnan(values), -1, found)


def _field(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of (x, y, value) points on the unit square, weighted by a Gaussian of distance; NaN far from all.

    A mean, because an interpolation through every point would draw the noise of each trial as a hill.
    """
    columns, rows = CELLS
    across, up = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    square = (across[..., None] - points[:, 0]) ** 2 + (up[..., None] - points[:, 1]) ** 2
    weights = np.exp(-square / (2 * BANDWIDTH**2))
    near = square.min(-1) <= (2 * BANDWIDTH) ** 2
    return np.where(near, weights @ points[:, 2] / np.where(near, weights.sum(-1), 1.0), math.nan)


def _cells(levels: NDArray[Any], x: Scale, y: Scale) -> list[Markup]:
    """The field as one path for each level, made of runs of equal cells."""
    rows, columns = levels.shape
    width, height = (x(1) - x(0)) / columns, (y(0) - y(1)) / rows
    paths = [""] * LEVELS
    for row in range(rows):
        start = 0
        for column in range(1, columns + 1):
            if column < columns and levels[row, column] == levels[row, start]:
                continue
            if levels[row, start] >= 0:
                run = width * (column - start)
                paths[levels[row, start]] += (
                    f"M{x(0) + width * start:.1f} {y(0) - height * (row + 1):.1f}h{run:.1f}v{height:.1f}h-{run:.1f}z"
                )
            start = column
    return [tag("path", d=d, class_=f"shade-{i} cell") for i, d in enumerate(paths) if d]


def _key(bounds: NDArray[np.float64]) -> list[Markup]:
    """The shades with the values between them."""
    width, y, digits = 50.0, BOTTOM + 54, 1 if np.ptp(bounds) > LEVELS else 2
    left = (LEFT + RIGHT - width * LEVELS) / 2
    shades = [
        tag("rect", x=left + width * i, y=y, width=width, height=8, class_=f"shade-{i} cell") for i in range(LEVELS)
    ]
    labels = [text(left + width * i, y + 20, number(v, digits), "tick", "middle") for i, v in enumerate(bounds)]
    return [*shades, *labels, text(left + width * LEVELS + 6, y + 8, "%", "tick")]


def front_plot(trials: Trials, across: Mapping[int, float], name: str, front: Sequence[int]) -> Markup:
    """Validation accuracy against another objective; a line joins the trials that no other beats on both.

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
    best = sorted((across[p.number], p.value) for p in known if p.number in front and p.value is not None)
    steps = ""
    for a, b in best:
        at_x, at_y = x(a), y(max(b, y.data[0]))
        steps += f"H{at_x:.1f}V{at_y:.1f}" if steps else f"M{at_x:.1f} {at_y:.1f}"
    if steps:
        parts.append(tag("path", d=steps, class_=f"mean best {arm_class(trials.arm)}"))
    parts += _marks(
        Trials(known, trials.winner, trials.default, trials.arm), y, {p.number: x(across[p.number]) for p in known}
    )
    parts += [
        tag("circle", cx=x(a), cy=y(max(b, y.data[0])), r=5.5, class_=f"ring front {arm_class(trials.arm)}")
        for a, b in best
    ]
    description = f"{len(known)} complete trials, {len(best)} of them on the front"
    return svg(WIDTH, BOTTOM + 56, f"Validation accuracy against {name}", description, *parts, class_="panel")


def share_bar(share: float) -> Markup:
    """A share of one as a bar."""
    bar = tag("rect", x=0, y=3, width=round(100 * max(share, 0.0), 1), height=10, class_="share")
    return tag("svg", bar, class_="bar", viewBox="0 0 100 16", aria_hidden="true")


@dataclass(frozen=True)
class Row:
    """One line of the forest plot: whose effect, of which kind, from which comparison."""

    arm: str
    kind: str
    effect: Effect


LANE, EDGE = 400.0, 10.0
"""Width of the forest plot's column, and the air at its ends."""


@dataclass(frozen=True)
class Forest:
    """A forest plot whose lines are rows of a table: hollow at default values, filled when tuned.

    `analysis` is one of the comparisons, for the margin and the direction that all share.
    """

    rows: Sequence[Row]
    analysis: Analysis

    @property
    def x(self) -> Scale:
        """The axis of all lanes."""
        span = effect_span([r.effect for r in self.rows], declared_margin(self.analysis))
        return Scale(span, (EDGE, LANE - EDGE))

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows of each arm, in their order."""
        return [(arm, list(rows)) for arm, rows in groupby(self.rows, key=lambda r: r.arm)]

    @property
    def head(self) -> Markup:
        """The scale, with what its two ends mean."""
        at = ticks(*self.x.data, 6)
        worse, better = ("← worse", "better →") if self.analysis.higher_is_better else ("← better", "worse →")
        labels = [text(self.x(v), 32, s, "tick", "middle") for v, s in zip(at, tick_labels(at), strict=True)]
        ends = (text(0, 12, worse, "tick"), text(LANE, 12, better, "tick", "end"))
        return tag("svg", *ends, *labels, viewBox=f"0 0 {LANE:g} 36", aria_hidden="true")

    def lane(self, row: Row) -> Markup:
        """One interval over margin, grid and zero. Hidden from screen readers: its row says the same in words."""
        x, margin, e, d = self.x, declared_margin(self.analysis), row.effect, decimals(self.analysis)
        title = f"{row.arm}, {row.kind}: {signed(e.mean, d)} {interval(e.low, e.high, d)}, n = {e.n}; {e.verdict.label}"
        return tag(
            "svg",
            tag("title", title),
            rect(x(-margin), x(margin), 0, 30, "margin"),
            *(line(x(v), 0, x(v), 30, "grid") for v in ticks(*x.data, 6)),
            line(x(0), 0, x(0), 30, "zero"),
            *whisker(e, x, 15, "default" if row.kind == "default" else "tuned"),
            viewBox=f"0 0 {LANE:g} 30",
            aria_hidden="true",
        )
