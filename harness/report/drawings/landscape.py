"""The map of two searched values: trials and a coarse field of what they reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from harness.report.drawings.search import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, Trials, axis_name, rings
from harness.report.drawings.svg import Scale, svg, tag, text
from harness.report.text.numbers import number

LEVELS = 6
"""Shades of the map of two values."""
CELLS = (30, 24)
"""Columns and rows of its field."""
BANDWIDTH = 0.1
"""Standard deviation of the field's weights as a share of each range; the field ends at twice that from a trial."""
FEWEST = 8
"""Complete trials from which a field is drawn."""


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
    parts = _cells(levels(field(spots), bounds), x, y) if len(known) >= FEWEST else []
    parts.append(
        tag("rect", x=LEFT, y=TOP - 6, width=RIGHT - LEFT, height=BOTTOM - TOP + 12, class_="axis", fill="none")
    )
    parts += [text(x(s), BOTTOM + 22, t, "tick", "middle") for s, t in x_axis.ticks(RIGHT - LEFT)]
    parts += [text(LEFT - 6, y(s) + 4, t, "tick", "end") for s, t in y_axis.ticks(40)]
    parts += [
        text((LEFT + RIGHT) / 2, BOTTOM + 41, axis_name(x_name, x_axis), "quiet", "middle"),
        text(0, 10, axis_name(y_name, y_axis), "quiet"),
    ]
    for (p, a, b), shade in zip(known, levels(spots[:, 2], bounds).tolist(), strict=True):
        parts.append(tag("circle", tag("title", p.title), cx=x(a), cy=y(b), r=4.5, class_=f"shade-{shade} spot"))
    named = [(x(a), y(b), trials.name(p.number)) for p, a, b in known if trials.name(p.number)]
    parts += [*rings(named), *_key(bounds)]
    description = (
        f"{len(known)} complete trials; stronger colour is better, from {number(bounds[0])} % to {number(bounds[-1])} %"
    )
    title = f"Validation accuracy over {x_name} and {y_name}"
    return svg(WIDTH, BOTTOM + 78, title, description, *parts, class_="panel")


def levels(values: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.int64]:
    """The shade of each value, -1 for NaN. The shades hold equally many trials, so the best ones differ in theirs."""
    found = np.clip(np.searchsorted(bounds, values, side="right") - 1, 0, LEVELS - 1)
    return np.where(np.isnan(values), -1, found)


def field(points: NDArray[np.float64]) -> NDArray[np.float64]:
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
