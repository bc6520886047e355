"""The tricks as HTML documents that open from disk without a network: one for all cards, and one for each trick."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from harness.analysis.compare import ArmComparison, compare
from harness.analysis.types import Analysis, Effect, Estimate
from harness.report import figures, forests, references, tables
from harness.report.build import Loaded
from harness.report.compare_page import agreement
from harness.report.pages import write_page
from harness.report.render import environment
from harness.store.schema import ArmPlan

Card = Mapping[str, Any]

FEWEST_POOLED = 5
"""Studies below which no pooled effect is shown: the variance between two or three is hardly known."""


class Origin(NamedTuple):
    """A study that the site shows: its name, the page that tells of it, and its effects."""

    name: str
    page: str
    loaded: Loaded


@dataclass(frozen=True)
class Measured:
    """The effect of one arm of one study; `version` is that of the trick's code, None where no run is stored."""

    origin: Origin
    plan: ArmPlan
    effect: Effect
    version: int | None

    @property
    def analysis(self) -> Analysis:
        """That of the study."""
        return self.origin.loaded.analysis

    @property
    def name(self) -> str:
        """The study, and the arm where its label says more than the trick."""
        return self.origin.name if self.plan.label in self.plan.tricks else f"{self.origin.name}, {self.plan.label}"


@dataclass(frozen=True)
class InStack:
    """What a study of combinations says of one trick: a title such as "Main effects", and the estimate."""

    origin: Origin
    title: str
    estimate: Estimate


@dataclass(frozen=True)
class Evidence:
    """All that the studies say about one trick: arms with it alone, arms with others, and shares of stacks."""

    alone: tuple[Measured, ...] = ()
    stacked: tuple[Measured, ...] = ()
    shares: tuple[InStack, ...] = ()


def gather(origins: Sequence[Origin]) -> dict[str, Evidence]:
    """The evidence by trick, in the order of the studies."""
    found: dict[str, dict[str, list[Any]]] = {}
    for origin in origins:
        effects = {e.arm: e for e in origin.loaded.analysis.effects}
        version = _versions(origin.loaded)
        for plan in origin.loaded.manifest.arms:
            kind = "alone" if len(plan.tricks) == 1 else "stacked"
            for trick in plan.tricks if plan.label in effects else ():
                measured = Measured(origin, plan, effects[plan.label], version(plan, trick))
                found.setdefault(trick, {}).setdefault(kind, []).append(measured)
        for share in _shares(origin):
            found.setdefault(share.estimate.name, {}).setdefault("shares", []).append(share)
    return {trick: Evidence(**{k: tuple(v) for k, v in lists.items()}) for trick, lists in found.items()}


def _versions(loaded: Loaded) -> Any:
    """A function from an arm and a trick to the version of the trick's code that trained it."""
    specs = dict(zip(loaded.data.runs["run_id"], loaded.data.runs["spec"], strict=True))

    def version(plan: ArmPlan, trick: str) -> int | None:
        spec = next((specs[i] for i in plan.run_ids.values() if isinstance(specs.get(i), str)), None)
        used = json.loads(spec)["arm"]["tricks"] if spec else []
        return next((t["version"] for t in used if t["name"] == trick), None)

    return version


def _shares(origin: Origin) -> Iterable[InStack]:
    """What the study's design says of single tricks inside stacks."""
    design = origin.loaded.design
    if design is None:
        return
    for title, estimates in (
        ("main effect, averaged over the other tricks", design.fit.main if design.fit else ()),
        ("step of the stack, from the arm before it", design.steps),
        ("left out of the full stack", design.leave_one_out),
        ("Shapley value, its share of the full stack", design.shapley),
    ):
        yield from (InStack(origin, title, e) for e in estimates)


def render_tricks(
    cards: Sequence[Card], evidence: Mapping[str, Evidence] | None = None, root: str | None = None
) -> str:
    """The page of all cards.

    Args:
        cards: plain data as `harness tricks --json` prints it; those of kind "trick" come first on the page, by family,
            and the others in a table after them.
        evidence: what studies say, by trick; None where no study is at hand.
        root: where the site's index is from here, or None outside a site; inside, each trick has a page of its own.
    """
    tricks = sorted((c for c in cards if c["kind"] == "trick"), key=lambda c: (c["family"], c["name"]))
    others = sorted((c for c in cards if c["kind"] != "trick"), key=lambda c: (c["family"], c["name"]))
    return environment.get_template("tricks.html.j2").render(
        root=root,
        families=[(family, list(found)) for family, found in groupby(tricks, key=lambda c: c["family"])],
        others=others,
        tricks={c["name"] for c in tricks},
        evidence=evidence or {},
        value=_value,
        search=_search,
        by_reason=_by_reason,
        told=_told,
    )


def write_tricks(
    cards: Sequence[Card], page: Path, evidence: Mapping[str, Evidence] | None = None, root: str | None = None
) -> Path:
    """Write the page of all cards and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_page(page, render_tricks(cards, evidence, root), "--html")


def render_trick(card: Card, evidence: Evidence, tricks: Collection[str], root: str = "../") -> str:
    """The page of one trick: what studies found, what was published, and its card.

    Args:
        card: of kind "trick", as plain data.
        evidence: what studies say of it.
        tricks: names that have a page beside this one.
        root: where the site's index is from here.
    """
    plots = [_plot(card, list(group)) for _, group in groupby(sorted(evidence.alone, key=_scale), key=_scale)]
    figures_ = references.published(card["name"])
    return environment.get_template("trick.html.j2").render(
        root=root,
        card=card,
        plots=plots,
        evidence=evidence,
        studies=len({m.origin.page for m in evidence.alone}),
        references=[(figure, _directions(figure, evidence.alone)) for figure in figures_],
        tricks=tricks,
        value=_value,
        search=_search,
        by_reason=_by_reason,
        told=_told,
        signed=tables.signed,
        interval=tables.interval,
        number=tables.number,
        ratio=tables.ratio,
        clear=tables.clear_of_zero,
        metric_name=tables.metric_name,
        decimals=tables.decimals,
    )


def write_trick(card: Card, evidence: Evidence, tricks: Collection[str], folder: Path) -> Path:
    """Write the page of one trick into `folder`, beside those of `tricks`, and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_page(folder / f"{card['name']}.html", render_trick(card, evidence, tricks), "--reports")


def _scale(measured: Measured) -> tuple[str, str]:
    """What effects must share to stand on one axis: metric and unit."""
    return measured.analysis.metric, measured.analysis.unit


@dataclass(frozen=True)
class _Row:
    measured: Measured
    lane: Markup | None
    settings: str
    old: int | None


@dataclass(frozen=True)
class _Plot:
    """A forest plot of one trick on one metric. `pooled` is the sentence about all studies together."""

    metric: str
    unit: str
    axis: Markup | None
    rows: Sequence[_Row]
    together: str
    pooled: str


def _plot(card: Card, measured: Sequence[Measured]) -> _Plot:
    first = measured[0].analysis
    drawn = figures.drawable([m.effect for m in measured])
    margin = max((figures.declared_margin(m.analysis) for m in measured), default=0.0)
    span = figures.effect_span(drawn, margin) if drawn else None
    higher = first.higher_is_better

    def lane(m: Measured) -> Markup | None:
        if span is None or not figures.drawable([m.effect]):
            return None
        mark = forests.mark(m.effect, m.name, figures.tone_of(m.effect, higher))
        return forests.lane([mark], span, figures.declared_margin(m.analysis), tables.decimals(m.analysis))

    def old(m: Measured) -> int | None:
        return m.version if m.version not in (None, card["version"]) else None

    comparison = _together(card["name"], measured)
    return _Plot(
        metric=tables.metric_name(first.metric),
        unit=first.unit,
        axis=forests.axis(span, higher) if span else None,
        rows=[_Row(m, lane(m), _changed(card, m.plan), old(m)) for m in measured],
        together=agreement(comparison) if comparison else "",
        pooled=_pooled(comparison, measured) if comparison else "",
    )


def _changed(card: Card, plan: ArmPlan) -> str:
    """The hyperparameters of an arm that are not the card's defaults: "alpha = 0.2"."""
    # Through JSON, because a default may be a tuple where the manifest has a list.
    defaults = {p["name"]: json.loads(json.dumps(p["default"])) for p in card["parameters"]}
    values = plan.tricks[card["name"]]
    return ", ".join(f"{k} = {_value(v)}" for k, v in values.items() if k not in defaults or defaults[k] != v)


def _together(trick: str, measured: Sequence[Measured]) -> ArmComparison | None:
    """The studies' effects compared as effects of one arm; None where fewer than two have an interval."""
    known = {m.name: replace(m.analysis, effects=(replace(m.effect, arm=trick),)) for m in measured if m.effect.n > 1}
    return compare(known).arms[0] if len(known) > 1 else None


def _pooled(comparison: ArmComparison, measured: Sequence[Measured]) -> str:
    """The mean over the studies where it means something; otherwise why there is none."""
    unit = measured[0].analysis.unit
    settings = {json.dumps(m.plan.tricks, sort_keys=True) for m in measured if m.effect.n > 1}
    if comparison.pooling is None:
        return "No pooled effect: effects of shared runs, or without a standard error, cannot be pooled."
    if len(settings) > 1:
        return "No pooled effect: the hyperparameters differ, so these are effects of different tricks."
    k = len(comparison.effects)
    if k < FEWEST_POOLED:
        return f"No pooled effect: {k} studies hardly tell how much the effect varies between workloads."
    p, between = comparison.pooling.random, math.sqrt(comparison.pooling.tau2)
    mean = f"{tables.signed(p.mean)} {tables.interval(p.low, p.high)} {unit}".rstrip()
    return (
        f"Mean over these {k} workloads (random effects): {mean}, with a standard deviation of "
        f"{tables.number(between)} between them. It says nothing about the next workload beyond that spread."
    )


def _directions(figure: references.Published, measured: Sequence[Measured]) -> list[tuple[str, list[str]]]:
    """Which studies point where a published figure does, by direction."""
    found: dict[str, list[str]] = {}
    for m in measured:
        if m.effect.n and m.analysis.metric.endswith("accuracy"):
            found.setdefault(references.direction(figure, m.effect), []).append(m.name)
    return list(found.items())


def _told(m: Measured) -> str:
    """An effect with its interval, unit and n; or why there is none."""
    e, d = m.effect, tables.decimals(m.analysis)
    if not e.n:
        return "; ".join(e.reasons) or e.verdict.label
    interval = f" {tables.interval(e.low, e.high, d)}" if math.isfinite(e.low) else ""
    return f"{tables.signed(e.mean, d)}{interval} {m.analysis.unit}".rstrip() + f", n = {e.n}"


def _value(value: Any) -> str:
    """A default as one writes it: without digits that only binary fractions need."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


def _search(search: Sequence[Any] | None) -> str:
    """A search range in words."""
    if search is None:
        return "not searched"
    if search[-1] in ("log", "linear"):
        low, high, scale = search
        return f"{_value(low)} to {_value(high)}, {scale}"
    return ", ".join(map(_value, search))


def _by_reason(excludes: Mapping[str, str]) -> dict[str, list[str]]:
    """The tricks that share a reason for not being combined, by reason."""
    reasons: dict[str, list[str]] = {}
    for other, why in excludes.items():
        reasons.setdefault(why, []).append(other)
    return reasons
