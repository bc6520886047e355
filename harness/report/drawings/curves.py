"""Learning curves: means and bands over seeds, their first drawing, and the numbers that the page's script draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from scipy.special import stdtrit

from harness.report.drawings.svg import Scale, Span, arm_class, arm_dash, line, padded, path, svg, tag, text
from harness.report.text.numbers import interval, number

PANELS = (
    ("val", "accuracy", "Validation accuracy", "%", 100.0),
    ("val", "nll", "Validation nll", "", 1.0),
    ("train", "loss", "Training loss", "", 1.0),
)
"""Split, metric, title, unit and factor of each learning-curve plot. The test split has no curves."""

SMOOTHING = 0.7
"""How much of its weight a point of a smoothed curve passes on from one epoch to the next."""

LATE = 0.2
"""The share of training after which a vertical axis fits its curves: there the arms differ."""

PANEL = (400.0, 290.0)
PANEL_X = (46.0, 392.0)
PANEL_Y = (250.0, 12.0)


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

    def first(self, shown: int) -> Sequence[Series]:
        """The series drawn at first: those of the arms before `shown`, or all where none of these has one."""
        return [s for s in self.series if s.arm < shown] or self.series


def curve_panels(points: pd.DataFrame, names: Sequence[str]) -> list[Panel]:
    """Mean and 95 % t band over the seeds of each arm's finished runs, at every recorded epoch.

    Args:
        points: of the curves, with the columns of `harness.store.schema.CURVES` and the arm's `label`.
        names: labels of the arms; their places are the arms' numbers. Other arms are left out.
    """
    known = points[points["label"].isin(names)]
    known = known.assign(arm=known["label"].map({name: i for i, name in enumerate(names)}))
    panels = []
    for split, metric, title, unit, factor in PANELS:
        part = known[(known["split"] == split) & (known["metric"] == metric)]
        if part.empty:
            continue
        stats = part.groupby(["arm", "epoch"])["value"].agg(["mean", "std", "count"]).reset_index()
        n = stats["count"].to_numpy()
        # One seed has no spread: NaN, and no band.
        half = factor * stdtrit(np.where(n > 1, n - 1, np.nan), 0.975) * stats["std"].to_numpy() / np.sqrt(n)
        epochs, mean = stats["epoch"].to_numpy(dtype=float), factor * stats["mean"].to_numpy()
        arms, starts = np.unique(stats["arm"].to_numpy(), return_index=True)
        series = [
            Series(
                arm=int(arm),
                n=int(n[rows].max()),
                epochs=epochs[rows].tolist(),
                mean=mean[rows].tolist(),
                low=(mean - half)[rows].tolist(),
                high=(mean + half)[rows].tolist(),
            )
            for arm, rows in zip(arms, np.split(np.arange(len(stats)), starts[1:]), strict=True)
        ]
        panels.append(Panel(title, unit, series))
    return panels


def curve_data(panels: Sequence[Panel], names: Sequence[str]) -> Markup:
    """All curves for the page's script, as JSON that is safe inside a script element.

    Each series has its arm, n, the place of its epochs in `epochs`, and at each epoch the mean and half the
    width of the band, null where there is none.
    """

    def rounded(values: Sequence[float], digits: int) -> list[float | None]:
        return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]

    epochs: dict[tuple[float, ...], int] = {}
    data = {
        "arms": names,
        "size": PANEL,
        "x": PANEL_X,
        "y": PANEL_Y,
        "late": LATE,
        "smoothing": SMOOTHING,
        "panels": [
            {
                "unit": p.unit,
                "series": [
                    {
                        "arm": s.arm,
                        "n": s.n,
                        "at": epochs.setdefault(tuple(s.epochs), len(epochs)),
                        "mean": rounded(s.mean, 4),
                        "half": rounded([high - mean for mean, high in zip(s.mean, s.high, strict=True)], 3),
                        "class": arm_class(s.arm),
                        "dash": arm_dash(s.arm),
                    }
                    for s in p.series
                ],
            }
            for p in panels
        ],
    }
    return htmlsafe_json_dumps(data | {"epochs": list(epochs)}, separators=(",", ":"))


def curve_spans(panel: Panel, shown: int) -> tuple[Span, Span]:
    """Axis ranges of the curves drawn at first. The vertical one fits the last four fifths of training."""
    series = panel.first(shown)
    last = max(s.epochs[-1] for s in series)
    late = [
        value
        for s in series
        for epoch, *values in zip(s.epochs, s.mean, s.low, s.high, strict=True)
        for value in values
        if epoch >= LATE * last and math.isfinite(value)
    ] or [0.0, 1.0]
    return (min(s.epochs[0] for s in series), last), padded(min(late), max(late))


def curve_panel(panel: Panel, names: Sequence[str], shown: int) -> Markup:
    """Mean and band of the arms before `shown`; the page's script draws the others, and other axes."""
    across, up = curve_spans(panel, shown)
    x, y = Scale(across, PANEL_X), Scale(up, PANEL_Y)
    frame = [line(PANEL_X[0], y(v), PANEL_X[1], y(v), "grid") for v, _ in y.ticks()]
    frame += [text(PANEL_X[0] - 6, y(v) + 4, label, "tick", "end") for v, label in y.ticks()]
    frame += [text(x(v), PANEL_Y[0] + 18, label, "tick", "middle") for v, label in x.ticks(6)]
    series = panel.first(shown)
    groups = [_curve(s, x, y) for s in reversed(series)]  # the baseline last, on top
    # A nested svg clips what leaves the frame without naming a clip path.
    width, height = PANEL_X[1] - PANEL_X[0], PANEL_Y[0] - PANEL_Y[1]
    view = f"{PANEL_X[0]:g} {PANEL_Y[1]:g} {width:g} {height:g}"
    inner = tag("svg", *groups, class_="lines", x=PANEL_X[0], y=PANEL_Y[1], width=width, height=height, viewBox=view)
    ends = "; ".join(
        f"{names[s.arm]} ends at {number(s.mean[-1])} {interval(s.low[-1], s.high[-1])}, n = {s.n}" for s in series
    )
    return svg(
        *PANEL,
        f"{panel.title} against epoch",
        ends,
        tag("g", *frame, class_="frame"),
        inner,
        line(PANEL_X[0], PANEL_Y[0], PANEL_X[1], PANEL_Y[0], "axis"),
        text(sum(PANEL_X) / 2, PANEL_Y[0] + 36, "epoch", "quiet", "middle"),
        line(0, PANEL_Y[1], 0, PANEL_Y[0], "cursor"),
        # The empty title keeps the browser's own tooltip from covering the read-out.
        tag("rect", tag("title"), x=PANEL_X[0], y=0, width=width, height=PANEL_Y[0], class_="hover"),
        class_="panel",
    )


def _curve(s: Series, x: Scale, y: Scale) -> Markup:
    points = [(x(e), y(m), y(lo), y(hi)) for e, m, lo, hi in zip(s.epochs, s.mean, s.low, s.high, strict=True)]
    banded = [p for p in points if math.isfinite(p[2])]
    edge = [(p[0], p[2]) for p in banded] + [(p[0], p[3]) for p in reversed(banded)]
    colour = arm_class(s.arm)
    return tag(
        "g",
        *([tag("path", d=path(edge) + "z", class_=f"band {colour}")] if len(banded) > 1 else []),
        tag("path", d=path([p[:2] for p in points]), class_=f"mean {colour}", stroke_dasharray=arm_dash(s.arm)),
        data_arm=s.arm,
    )
