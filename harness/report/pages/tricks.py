"""The tricks as HTML documents that open from disk without a network: one for all cards, and one for each trick."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.analysis.compare import ArmComparison, compare
from harness.report.drawings.lanes import declared_margin, drawable, effect_span, head, lane, mark, tone_of
from harness.report.evidence import Measured, TrickEvidence
from harness.report.pages.frame import render
from harness.report.pages.sheets import embedded
from harness.report.pages.writing import write_page
from harness.report.text.comparison import agreement
from harness.report.text.numbers import decimals, interval, metric_name, number, signed, typed
from harness.report.text.references import Published, direction, published
from harness.store.schema import ArmPlan

Card = Mapping[str, Any]

FEWEST_POOLED = 5
"""Studies below which no pooled effect is shown: the variance between two or three is hardly known."""


@dataclass(frozen=True)
class TricksPage:
    """The variables of the template for all cards; `root` is where the site's index is from here."""

    root: str | None
    families: Sequence[tuple[str, Sequence[Card]]]
    others: Sequence[Card]
    tricks: Collection[str]
    evidence: Mapping[str, TrickEvidence]


@dataclass(frozen=True)
class TrickRow:
    """A study of a trick: its lane, the hyperparameters that are not the defaults, and another version of the trick."""

    measured: Measured
    lane: Markup | None
    settings: str
    old: int | None


@dataclass(frozen=True)
class TrickPlot:
    """A forest plot of one trick on one metric. `pooled` is the sentence about all studies together."""

    metric: str
    unit: str
    axis: Markup | None
    rows: Sequence[TrickRow]
    together: str
    pooled: str


@dataclass(frozen=True)
class TrickPage:
    """The variables of the template for one trick: `studies` is how many have it alone.

    `sheet` is a picture of what it does to images, None where there is none. `references` are published figures, each
    with the studies by direction.
    """

    root: str
    card: Card
    plots: Sequence[TrickPlot]
    evidence: TrickEvidence
    studies: int
    references: Sequence[tuple[Published, Sequence[tuple[str, Sequence[str]]]]]
    tricks: Collection[str]
    sheet: str | None = None


def render_tricks(
    cards: Sequence[Card], evidence: Mapping[str, TrickEvidence] | None = None, root: str | None = None
) -> str:
    """The page of all cards.

    Args:
        cards: plain data as `harness tricks --json` prints it; tricks come first on the page, by family, and other
            known names in a table after them.
        evidence: what studies say, by trick; None where no study is at hand.
        root: where the site's index is from here, or None outside a site; inside, each trick has a page of its own.
    """
    tricks = sorted((c for c in cards if c["trick"]), key=lambda c: (c["family"], c["name"]))
    others = sorted((c for c in cards if not c["trick"]), key=lambda c: (c["family"], c["name"]))
    page = TricksPage(
        root=root,
        families=[(family, list(found)) for family, found in groupby(tricks, key=lambda c: c["family"])],
        others=others,
        tricks={c["name"] for c in tricks},
        evidence=evidence or {},
    )
    return render("tricks.html.j2", page)


def write_tricks(
    cards: Sequence[Card], page: Path, evidence: Mapping[str, TrickEvidence] | None = None, root: str | None = None
) -> Path:
    """Write the page of all cards and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_page(page, render_tricks(cards, evidence, root), "--html")


def render_trick(card: Card, evidence: TrickEvidence, tricks: Collection[str], root: str = "../") -> str:
    """The page of one trick: what studies found, what was published, and its card.

    Args:
        card: of a trick, as plain data.
        evidence: what studies say of it.
        tricks: names that have a page beside this one.
        root: where the site's index is from here.
    """
    page = TrickPage(
        root=root,
        card=card,
        plots=[_plot(card, list(group)) for _, group in groupby(sorted(evidence.alone, key=_scale), key=_scale)],
        evidence=evidence,
        studies=len({m.origin.page for m in evidence.alone}),
        references=[(figure, _directions(figure, evidence.alone)) for figure in published(card["name"])],
        tricks=tricks,
        sheet=embedded(card),
    )
    return render("trick.html.j2", page)


def write_trick(card: Card, evidence: TrickEvidence, tricks: Collection[str], folder: Path) -> Path:
    """Write the page of one trick into `folder`, beside those of `tricks`, and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_page(folder / f"{card['name']}.html", render_trick(card, evidence, tricks))


def _scale(measured: Measured) -> tuple[str, str]:
    """What effects must share to stand on one axis: metric and unit."""
    return measured.analysis.metric, measured.analysis.unit


def _plot(card: Card, measured: Sequence[Measured]) -> TrickPlot:
    first = measured[0].analysis
    drawn = drawable([m.effect for m in measured])
    margin = max((declared_margin(m.analysis) for m in measured), default=0.0)
    span = effect_span(drawn, margin) if drawn else None
    higher = first.higher_is_better

    def drawing(m: Measured) -> Markup | None:
        if span is None or not drawable([m.effect]):
            return None
        drawn_as = mark(m.effect, m.name, tone_of(m.effect, higher), digits=decimals(m.analysis))
        return lane([drawn_as], span, declared_margin(m.analysis))

    def old(m: Measured) -> int | None:
        return m.version if m.version not in (None, card["version"]) else None

    comparison = _together(card["name"], measured)
    return TrickPlot(
        metric=metric_name(first.metric),
        unit=first.unit,
        axis=head(span, higher) if span else None,
        rows=[TrickRow(m, drawing(m), _changed(card, m.plan), old(m)) for m in measured],
        together=agreement(comparison) if comparison else "",
        pooled=_pooled(comparison, measured) if comparison else "",
    )


def _changed(card: Card, plan: ArmPlan) -> str:
    """The hyperparameters of an arm that are not the card's defaults: "alpha = 0.2"."""
    # Through JSON, because a default may be a tuple where the manifest has a list.
    defaults = {p["name"]: json.loads(json.dumps(p["default"])) for p in card["parameters"]}
    values = plan.tricks[card["name"]]
    return ", ".join(f"{k} = {typed(v)}" for k, v in values.items() if k not in defaults or defaults[k] != v)


def _together(trick: str, measured: Sequence[Measured]) -> ArmComparison | None:
    """The studies' effects compared as effects of one arm; None where fewer than two have an interval."""
    known = {m.name: replace(m.analysis, effects=(replace(m.effect, arm=trick),)) for m in measured if m.effect.n > 1}
    return compare(known).arms[0] if len(known) > 1 else None


def _pooled(comparison: ArmComparison, measured: Sequence[Measured]) -> str:
    """The mean over the studies where it means something; otherwise why there is none."""
    unit = measured[0].analysis.unit
    settings = {json.dumps(m.plan.tricks, sort_keys=True) for m in measured if m.effect.n > 1}
    if len(settings) > 1:
        return "No mean effect: the hyperparameters differ, so these are effects of different tricks."
    found = comparison.overall
    if found is None:
        return "No mean effect: it takes studies of blocks and runs of their own, each with a standard error."
    if found.k < FEWEST_POOLED:
        return f"No mean effect: {found.k} studies hardly tell how much the effect varies between workloads."
    mean = f"{signed(found.mean)} {interval(found.low, found.high)} {unit}".rstrip()
    return (
        f"Mean over these {found.k} workloads (random effects, Hartung-Knapp interval): {mean}, with a standard "
        f"deviation of {number(found.between)} between them. It says nothing about the next workload beyond "
        "that spread."
    )


def _directions(figure: Published, measured: Sequence[Measured]) -> list[tuple[str, list[str]]]:
    """Which studies point where a published figure does, by direction."""
    found: dict[str, list[str]] = {}
    for m in measured:
        if m.effect.n and m.analysis.metric.endswith("accuracy"):
            found.setdefault(direction(figure, m.effect), []).append(m.name)
    return list(found.items())
