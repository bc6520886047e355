"""Figures for papers: what the page shows, drawn by matplotlib at a column's width as SVG, PDF or PNG.

Text is 8 pt and stays text. Colours are Okabe and Ito's (2008), and shape, fill or dashes say the same without them.
Equal input gives equal bytes. Only the export imports this module: matplotlib takes longer to load than a page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from harness.analysis.types import Analysis, Effect, Ratio
from harness.errors import UserError
from harness.experiment import BASELINE
from harness.report.drawings.curves import Series, curve_panels, curve_spans
from harness.report.drawings.lanes import declared_margin, drawable, effect_span, tone_of, ways
from harness.report.drawings.sheet import (
    BAND,
    BLUE,
    GREY,
    RULE,
    STYLE,
    VERMILION,
    WIDE,
    Sheet,
    extent,
    to_bytes,
    wrapped,
)
from harness.report.drawings.svg import LogScale, padded, ticks
from harness.report.text.numbers import confidence, decimals, interval, metric_name, signed
from harness.report.text.tables import choose, too_many

MOST = {"forest": 60, "curves": 7, "cost": 12, "pairs": 6}
"""Arms that a reader can tell apart, or that fit on a page."""

WIDTHS = (7.0, 40.0)
"""Widths in cm that can be asked for."""

TONES = {
    "better": (BLUE, "o", BLUE),
    "better hint": (BLUE, "o", "white"),
    "worse": (VERMILION, "s", VERMILION),
    "worse hint": (VERMILION, "s", "white"),
    "open": (GREY, "o", "white"),
}
"""Colour, marker and its filling: an effect without a verdict is open, and the direction has a shape, too."""

LINES = (
    ("#000000", (0, ())),
    (BLUE, (0, (5, 1.5))),
    (VERMILION, (0, (1.2, 1.2))),
    ("#009E73", (0, (5, 1.2, 1.2, 1.2))),
    ("#CC79A7", (0, (8, 2))),
    ("#E69F00", (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2))),
    ("#56B4E9", (0, (2.5, 1))),
    ("#6B4226", (0, (8, 1.5, 1.2, 1.5))),
)
"""Colour and dashes of each arm's curve, the baseline's first."""


@dataclass(frozen=True)
class Material:
    """What figures show: an analysis, and the points of its curves as `curve_panels` takes them."""

    analysis: Analysis
    points: pd.DataFrame


def figure(name: str, form: str, source: Material, arms: Sequence[str] = (), width: float = 8.5) -> bytes:
    """One figure as the bytes of a file.

    Args:
        name: a key of `MOST`.
        form: svg, pdf or png.
        source: what to show.
        arms: labels of the arms to show, or all.
        width: in cm; the height follows from what is shown.

    Raises:
        UserError: there is nothing to show, or more than fits, or no such arm, or the width is out of range.
    """
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise UserError(f"--width {width:g}: a figure is {WIDTHS[0]:g} to {WIDTHS[1]:g} cm wide")
    analysis = source.analysis
    effects = choose(analysis, arms)
    if name != "curves":
        effects = drawable(effects)
        if not effects:
            raise UserError(f"figure {name} of {analysis.study}: no arm has an interval, which takes two pairs")
    if len(effects) > MOST[name]:
        raise UserError(too_many(f"figure {name}", MOST[name], effects, analysis))
    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of the machine must not change a figure
        mpl.rcParams.update(STYLE)
        drawn = DRAW[name](source, effects, width)
        return to_bytes(drawn, form, f"{analysis.study}: {name}", analysis.scope)


def _tone(effect: Effect, analysis: Analysis) -> tuple[str, str, str]:
    return TONES[tone_of(effect, analysis.higher_is_better)]


def _numbers(effect: Effect, analysis: Analysis) -> str:
    d = decimals(analysis)
    return f"{signed(effect.mean, d)} {interval(effect.low, effect.high, d)}"


def _pairs_in(effects: Sequence[Effect]) -> str:
    """How many pairs the effects have: "n = 10 pairs" or "n = 8 to 10 pairs"."""
    n = sorted({e.n for e in effects})
    return f"n = {n[0]} pairs" if len(n) == 1 else f"n = {n[0]} to {n[-1]} pairs"


def _axis_label(analysis: Analysis) -> str:
    unit = f" ({analysis.unit})" if analysis.unit else ""
    return f"effect on {metric_name(analysis.metric)}{unit}"


def _forest(source: Material, effects: Sequence[Effect], width: float) -> Figure:
    """Effects with intervals, best first, against zero, the margin and what each n could detect."""
    analysis, margin = source.analysis, declared_margin(source.analysis)
    effects = sorted(effects, key=lambda e: e.mean, reverse=analysis.higher_is_better)
    names, numbers = [wrapped(e.arm) for e in effects], [_numbers(e, analysis) for e in effects]
    lines = [name.count("\n") + 1 for name in names]
    row, top = 0.37, 0.95
    bottom = top + row * sum(lines) + 0.1
    sheet = Sheet(width, bottom + 0.95)
    head = f"effect [{confidence(analysis)} CI]"
    left, right = extent(names) + 0.2, width - extent([*numbers, head]) - 0.75
    if right - left < 1.5:
        raise UserError(
            f"--width {width:g}: too narrow for these names and numbers; {math.ceil(width + 1.5 - right + left)} fit"
        )
    axes = sheet.axes(left, top, right, bottom)
    axes.set_xlim(*effect_span(effects, margin))
    axes.set_ylim(sum(lines) + 0.25, -0.05)
    _band(axes, margin)
    low, high = axes.get_xlim()
    y = 0.0
    for effect, name, text, height in zip(effects, names, numbers, lines, strict=True):
        at = y + height / 2
        y += height
        _whisker(axes, effect, at, _tone(effect, analysis))
        known = [v for v in (-effect.mde, effect.mde) if low <= v <= high]
        axes.plot(known, [at] * len(known), "|", color=RULE, markersize=6, markeredgewidth=0.6)
        place = top + (at + 0.05) / (sum(lines) + 0.3) * (bottom - top)
        sheet.text(left - 0.15, place, name, ha="right", va="center", linespacing=1.0)
        sheet.text(width - 0.65, place, text, ha="right", va="center")
        sheet.text(width - 0.03, place, str(effect.n), ha="right", va="center")
    sheet.text(width - 0.65, top - 0.12, head, ha="right", va="bottom")
    sheet.text(width - 0.03, top - 0.12, "n", ha="right", va="bottom", style="italic")
    worse, better = ways(analysis.higher_is_better)
    zero = left + (right - left) * low / (low - high)
    sheet.text(zero - 0.15, 0.05, worse, ha="right", va="top", color=GREY)
    sheet.text(zero + 0.15, 0.05, better, ha="left", va="top", color=GREY)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks(ticks(low, high, max(2, int((right - left) / 1.1))))
    # Centred on the sheet, because the axis may be narrower than its name.
    sheet.text(width / 2, sheet.height - 0.05, _axis_label(analysis), ha="center", va="bottom")
    return sheet.figure


def _band(axes: Axes, margin: float) -> None:
    """The margin and zero on a horizontal axis of effects."""
    axes.axvspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=RULE, linewidth=0.6, zorder=1)


def _whisker(axes: Axes, effect: Effect, y: float, tone: tuple[str, str, str]) -> None:
    """An interval with its mean; an arrow where it leaves the axis."""
    (low, high), (colour, marker, fill) = axes.get_xlim(), tone
    ends = [min(max(v, low), high) for v in (effect.low, effect.high)]
    axes.plot(ends, [y, y], "-", color=colour, zorder=2)
    for end, beyond, arrow in ((ends[0], effect.low < low, "<"), (ends[1], effect.high > high, ">")):
        axes.plot([end], [y], arrow if beyond else "|", color=colour, markersize=4, zorder=2, clip_on=False)
    if low <= effect.mean <= high:
        axes.plot([effect.mean], [y], marker, color=colour, markerfacecolor=fill, markersize=4, zorder=3)


def _curves(source: Material, effects: Sequence[Effect], width: float) -> Figure:
    """Mean and 95 % t band over seeds at each epoch: validation accuracy and loss, and the training loss."""
    names = [BASELINE, *(e.arm for e in effects)]
    panels = curve_panels(source.points, names)
    if not panels:
        raise UserError(f"figure curves of {source.analysis.study}: these arms have no stored curves")
    across = len(panels) if width >= WIDE else 1
    down, height = math.ceil(len(panels) / across), 4.6
    counts: dict[int, int] = {}
    for series in (s for panel in panels for s in panel.series):
        counts[series.arm] = max(series.n, counts.get(series.arm, 0))
    columns = max(1, int(width / (extent([f"{names[arm]} (n = {n})" for arm, n in counts.items()]) + 1.2)))
    top = 0.42 * math.ceil(len(counts) / columns) + 0.75
    sheet = Sheet(width, top + down * height)
    for i, panel in enumerate(panels):
        column, line = i % across, i // across
        step = width / across
        axes = sheet.axes(
            column * step + 1.05, top + line * height, (column + 1) * step - 0.3, top + (line + 1) * height - 1.25
        )
        horizontal, vertical = curve_spans(panel, len(names))
        axes.set(xlim=horizontal, ylim=vertical, xlabel="epoch")
        axes.set_title(f"{panel.title} ({panel.unit})" if panel.unit else panel.title, loc="left", pad=3)
        for series in sorted(panel.series, key=lambda s: -s.arm):  # the baseline last, on top
            _curve(axes, series, f"{names[series.arm]} (n = {series.n})")
    found = {label: line for a in sheet.figure.axes for line, label in zip(*a.get_legend_handles_labels(), strict=True)}
    labels = [f"{names[arm]} (n = {n})" for arm, n in sorted(counts.items())]
    sheet.figure.legend(
        [found[label] for label in labels], labels, ncols=columns, loc="upper left", bbox_to_anchor=(0, 1),
        frameon=False, borderaxespad=0.1, handlelength=2.6, columnspacing=1.2, labelspacing=0.25,
        title="mean over n runs with 95 % t band", alignment="left",
    )  # fmt: skip
    return sheet.figure


def _curve(axes: Axes, series: Series, label: str) -> None:
    colour, dashes = LINES[series.arm]
    axes.fill_between(series.epochs, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(series.epochs, series.mean, color=colour, linestyle=dashes, label=label)


def _cost(source: Material, effects: Sequence[Effect], width: float) -> Figure:
    """Effect against training time over the baseline's, each with its interval."""
    analysis, margin = source.analysis, declared_margin(source.analysis)
    timed = [(e, e.time) for e in effects if e.time and math.isfinite(e.time.low)]
    if not timed:
        raise UserError(f"figure cost of {analysis.study}: no arm has a time to compare, which takes two pairs")
    effects = [e for e, _ in timed]
    sheet = Sheet(width, 0.75 * width + 0.9 if width < WIDE else 0.5 * width)
    axes = sheet.axes(1.25, 0.55, width - 0.2, sheet.height - 1.0)
    ends = [v for _, t in timed for v in (t.low, t.high)]
    low, high = padded(math.log(min(1.0, *ends)), math.log(max(1.0, *ends)), 0.08)
    across = math.exp(low), math.exp(high)
    axes.set(xscale="log", xlim=across, ylim=effect_span(effects, margin))
    axes.axhspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    axes.axhline(0, color=RULE, linewidth=0.6, zorder=1)
    axes.axvline(1, color=RULE, linewidth=0.6, zorder=1)
    axes.minorticks_off()
    at, labels = zip(*LogScale(across, (0, 1)).ticks(int(width / 1.8)), strict=True)
    axes.set_xticks(at, [f"{label}×" for label in labels])
    axes.set(xlabel="training time over the baseline’s", ylabel=_axis_label(analysis))
    for effect, time in timed:
        colour, marker, fill = _tone(effect, analysis)
        axes.plot([time.value] * 2, [effect.low, effect.high], color=colour, linewidth=0.8)
        height, beyond = _inside(axes, effect.mean)
        axes.plot([time.low, time.high], [height] * 2, color=colour, linewidth=0.8)
        how: dict[str, Any] = {"color": colour, "markerfacecolor": fill, "markersize": 4, "zorder": 3}
        axes.plot([time.value], [height], beyond or marker, clip_on=False, **how)
    sheet.text(width - 0.2, 0.1, f"{confidence(analysis)} intervals, {_pairs_in(effects)}", ha="right", va="top")
    _label(sheet, axes, timed)
    return sheet.figure


def _inside(axes: Axes, effect: float) -> tuple[float, str]:
    """Where an effect stands on a vertical axis, and the arrow that it is drawn as if it lies beyond."""
    low, high = axes.get_ylim()
    return min(max(effect, low), high), "v" if effect < low else "^" if effect > high else ""


def _label(sheet: Sheet, axes: Axes, points: Sequence[tuple[Effect, Ratio]]) -> None:
    """Each point's name beside it, where it covers least of the other names and points, with a line to it if far."""
    taken = [box for effect, time in points for box in _ink(axes, effect, time)]
    frame = axes.get_window_extent()
    for effect, time in sorted(points, key=lambda p: -abs(p[0].mean)):
        at, beyond = _inside(axes, effect.mean)
        name = f"{effect.arm} ({signed(effect.mean, 1)})" if beyond else effect.arm
        tried: list[tuple[float, int, Annotation, Bbox]] = []
        for far, (dx, dy) in product((5, 14, 24), ((1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0, 1), (0, -1))):
            text = axes.annotate(
                name, (time.value, at), (far * dx, far * dy), textcoords="offset points",
                ha={1: "left", -1: "right", 0: "center"}[dx], va="center" if dx else "bottom" if dy > 0 else "top",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": RULE} if far > 5 else None, zorder=4,
            )  # fmt: skip
            text.set_clip_on(False)
            box = sheet.box(text)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
            covered = sum(overlap(box, other) for other in taken) + 1e9 * outside
            tried.append((covered, far, text, box))
            if not covered:
                break
        _, _, kept, place = min(tried, key=lambda t: t[:2])
        for _, _, text, _ in tried:
            if text is not kept:
                text.remove()
        taken.append(place)


def _ink(axes: Axes, effect: Effect, time: Ratio) -> list[Bbox]:
    """What one point of the cost figure covers, in pixels: its marker and both intervals, with some air."""
    place = axes.transData.transform
    at, _ = _inside(axes, effect.mean)
    (x, y), (left, low), (right, high) = place([(time.value, at), (time.low, effect.low), (time.high, effect.high)])
    return [
        Bbox.from_extents(x - 12, y - 12, x + 12, y + 12),
        Bbox.from_extents(x - 4, low, x + 4, high),
        Bbox.from_extents(left, y - 4, right, y + 4),
    ]


def overlap(a: Bbox, b: Bbox) -> float:
    """Area that two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(max(width, 0.0) * max(height, 0.0))


def _pairs(source: Material, effects: Sequence[Effect], width: float) -> Figure:
    """For each arm, every seed's baseline and arm joined by a line, and beside them the differences."""
    analysis = source.analysis
    across = 2 if width >= WIDE and len(effects) > 1 else 1
    down, height, step = math.ceil(len(effects) / across), 3.75, width / across
    sheet = Sheet(width, 0.5 + down * height)
    sheet.text(0.1, 0.1, f"differences: mean with {confidence(analysis)} t interval", va="top", color=GREY)
    for i, effect in enumerate(effects):
        left, top = i % across * step, 0.5 + i // across * height
        sheet.text(left + 0.1, top + 0.3, effect.arm, weight="bold")
        sheet.text(left + 0.1, top + 0.65, f"{_numbers(effect, analysis)}, n = {effect.n} pairs")
        middle, high, low = left + 0.5 * step, top + 0.85, top + height - 0.65
        _slopes(sheet.axes(left + 1.15, high, middle - 0.1, low), effect, analysis)
        _differences(sheet.axes(middle + 1.0, high, left + step - 0.15, low), effect, analysis)
    return sheet.figure


def _slopes(axes: Axes, effect: Effect, analysis: Analysis) -> None:
    sign = 1 if analysis.higher_is_better else -1
    for base, treated in zip(effect.base, effect.treated, strict=True):
        better = sign * (treated - base) > 0
        axes.plot([0, 1], [base, treated], "-" if better else "--", color=BLUE if better else VERMILION, linewidth=0.9)
    axes.set(xlim=(-0.15, 1.15), ylabel=metric_name(analysis.metric))
    axes.set_xticks([0, 1], ["baseline", "arm"])


def _differences(axes: Axes, effect: Effect, analysis: Analysis) -> None:
    margin, sign = declared_margin(analysis), 1 if analysis.higher_is_better else -1
    axes.axhspan(-margin, margin, color=BAND, linewidth=0, zorder=0)
    axes.axhline(0, color=RULE, linewidth=0.6, zorder=1)
    for i, difference in enumerate(effect.differences):
        better = sign * difference > 0
        fill = BLUE if better else "white"
        axes.plot([i % 3 / 8], [difference], "o" if better else "s", color=BLUE if better else VERMILION,
                  markerfacecolor=fill, markersize=3)  # fmt: skip
    colour, marker, fill = _tone(effect, analysis)
    axes.plot([0.8, 0.8], [effect.low, effect.high], color=colour)
    axes.plot([0.8], [effect.mean], marker, color=colour, markerfacecolor=fill, markersize=4.5)
    axes.set(xlim=(-0.25, 1.1), ylabel="difference")
    axes.set_xticks([0.12, 0.8], ["seeds", "mean"])


DRAW: dict[str, Callable[[Material, Sequence[Effect], float], Figure]] = {
    "forest": _forest,
    "curves": _curves,
    "cost": _cost,
    "pairs": _pairs,
}
