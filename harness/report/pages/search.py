"""A hyperparameter search as one HTML document that opens from disk without a network.

All effects come from the comparisons on fresh seeds. What the trials themselves say is of the validation split only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from harness.analysis.effects import analyse
from harness.analysis.rows import own_rows
from harness.analysis.types import Analysis, Effect, Verdict
from harness.experiment import BASELINE
from harness.metrics import OBJECTIVES, Objective
from harness.report.drawings.lanes import TUNING, Mark, declared_margin, drawable, effect_span, head, lane
from harness.report.drawings.search import budget_plot
from harness.report.drawings.svg import swatch
from harness.report.load import preface as preface_of
from harness.report.pages.frame import paragraphs, render
from harness.report.pages.provenance import provenance
from harness.report.pages.trials import ArmSection, arm_section
from harness.report.pages.writing import write_page
from harness.report.text.numbers import (
    confidence,
    decimals,
    interval,
    margin_of,
    metric_name,
    p_value,
    plural,
    signed,
)
from harness.report.text.words import why_empty
from harness.store.reader import read_kind, read_search
from harness.store.schema import RUNS, TUNED_BASELINE, SearchRecord


@dataclass(frozen=True)
class FreshEffects:
    """The comparisons on fresh seeds by name: "default", "tuned", "tuning"; any may be missing."""

    analyses: Mapping[str, Analysis]

    @property
    def any(self) -> Analysis | None:
        """One of the analyses, for the metric, unit, margin and level that all share."""
        return next(iter(self.analyses.values()), None)

    def of(self, comparison: str, arm: str) -> Effect | None:
        """One arm's effect, or None where it was not compared."""
        found = self.analyses.get(comparison)
        return next((e for e in found.effects if e.arm == arm), None) if found else None

    def tested(self, comparison: str) -> int:
        """How many p values of a comparison were corrected together."""
        found = self.analyses.get(comparison)
        return sum(math.isfinite(e.p) for e in found.effects) if found else 0


@dataclass(frozen=True)
class TuningLine:
    """One line of the forest plot: the kind of its values, its effect, and its lane."""

    kind: str
    effect: Effect
    lane: Markup


@dataclass(frozen=True)
class TuningForest:
    """A forest plot whose lines are rows of a table, by arm: hollow at default values, filled when tuned."""

    head: Markup
    groups: Sequence[tuple[str, Sequence[TuningLine]]]


@dataclass(frozen=True)
class SearchPage:
    """The variables of the template; None or empty ones are left out.

    `answers` are verdict, name and sentence of every arm, the baseline's last. `metric`, `level` and `margin` are those
    of all comparisons. `legend` has the name and the line sample of each arm of the drawing `budget`.
    """

    record: SearchRecord
    preface: Sequence[str]
    linked: bool
    objectives: Sequence[Objective]
    arms: Sequence[ArmSection]
    effects: FreshEffects
    answers: Sequence[tuple[Verdict | None, str, str]]
    unequal: str
    forest: TuningForest | None
    metric: str
    level: str
    margin: str | None
    digits: int
    budget: Markup | None
    legend: Sequence[tuple[str, Markup]]
    problems: Sequence[str]
    provenance: Sequence[tuple[str, str]]
    tuned_baseline: str = TUNED_BASELINE


def render_search(
    record: SearchRecord,
    runs: pd.DataFrame,
    problems: Sequence[str] = (),
    preface: str = "",
    linked: bool = False,
) -> str:
    """The search's page.

    Args:
        record: what was searched and found; its first objective is the accuracy.
        runs: stored runs; those that the record does not name, or of other fingerprints, are left out.
        problems: files that could not be read, one line each.
        preface: what was expected and what was found, in plain text; empty lines separate paragraphs.
        linked: the page stands in a site, beside its index.
    """
    runs = own_rows(runs, record)
    effects = FreshEffects({name: analyse(runs, manifest) for name, manifest in record.comparisons.items()})
    arms = sorted(record.arms, key=lambda arm: arm.label != BASELINE)  # the baseline has the first colour
    views = [arm_section(record, arm, i, runs) for i, arm in enumerate(arms)]
    budgets = [view.budget for view in views if view.budget]
    any_ = effects.any
    page = SearchPage(
        record=record,
        preface=paragraphs(preface),
        linked=linked,
        objectives=[OBJECTIVES[o] for o in record.objectives],
        arms=views,
        effects=effects,
        answers=[_answer(effects, arm.label) for arm in (*arms[1:], arms[0])],
        unequal=_unequal(record),
        forest=_forest(effects, any_, [arm.label for arm in arms]) if any_ else None,
        metric=metric_name(any_.metric) if any_ else "",
        level=confidence(any_) if any_ else "",
        margin=margin_of(any_),
        digits=decimals(any_) if any_ else 2,
        budget=budget_plot(budgets) if budgets else None,
        legend=[(b.name, swatch(b.arm)) for b in budgets],
        problems=problems,
        provenance=_provenance(record, runs),
    )
    return render("search.html.j2", page)


def write_search(search_dir: Path, reports: Path, linked: bool = False) -> Path:
    """Render a search's page to `reports/<search>.html`, with a link to the site's index if `linked`.

    Raises:
        UserError: there is no search in the folder, it is broken, or the page cannot be written.
    """
    record = read_search(search_dir)
    table, _, problems = read_kind(search_dir, "runs", record.runs)
    runs: pd.DataFrame = (RUNS.empty_table() if table is None else table).to_pandas()
    html = render_search(record, runs, problems, preface_of(search_dir), linked)
    # Not the name inside, which a foreign file could choose.
    return write_page(reports / f"{search_dir.name}.html", html)


def _forest(effects: FreshEffects, analysis: Analysis, labels: Sequence[str]) -> TuningForest | None:
    """What tuning was worth for the baseline, then every arm's two effects, on the axis that all share."""
    wanted = [("tuning", TUNED_BASELINE, BASELINE, "tuning alone")]
    wanted += [(c, label, label, c) for label in labels for c in ("default", "tuned")]
    found = [(name, kind, e) for c, arm, name, kind in wanted if (e := effects.of(c, arm)) and drawable([e])]
    if not found:
        return None
    margin, d = declared_margin(analysis), decimals(analysis)
    span = effect_span([e for *_, e in found], margin)

    def line(name: str, kind: str, e: Effect) -> TuningLine:
        title = f"{name}, {kind}: {signed(e.mean, d)} {interval(e.low, e.high, d)}, n = {e.n}; {e.verdict.label}"
        mark = Mark(e.mean, e.low, e.high, "default" if kind == "default" else "tuned", title)
        return TuningLine(kind, e, lane([mark], span, margin, TUNING))

    groups = [(name, [line(*f) for f in lines]) for name, lines in groupby(found, key=lambda f: f[0])]
    return TuningForest(head(span, analysis.higher_is_better, TUNING), groups)


def _answer(effects: FreshEffects, label: str) -> tuple[Verdict | None, str, str]:
    """Verdict, name and sentence of an arm: of its tuned effect, or for the baseline of what tuning was worth."""
    if label == BASELINE:
        worth = effects.of("tuning", TUNED_BASELINE)
        if worth is None:
            return None, label, "what tuning alone is worth was not measured on fresh seeds."
        return worth.verdict, label, f"tuning it alone was worth {_told(worth, effects, 'tuning')}."
    default, tuned = effects.of("default", label), effects.of("tuned", label)
    parts = []
    if default is not None:
        parts.append(f"{_told(default, effects, 'default', 'at its default values')}")
    if tuned is not None:
        parts.append(f"{_told(tuned, effects, 'tuned', 'tuned, against an equally tuned baseline')}")
    if not parts:
        return None, label, "no comparison on fresh seeds, and what a search found is not an effect yet."
    return tuned.verdict if tuned else None, label, f"{'; '.join(parts)}."


def _told(effect: Effect, effects: FreshEffects, comparison: str, where: str = "") -> str:
    """An effect in words: "+1.20 points [0.30, 2.10] at its default values (10 fresh seeds, p = 0.012)"."""
    analysis = effects.analyses[comparison]
    d, where = decimals(analysis), f" {where}".rstrip()
    if not effect.n:
        return f"not measured{where} ({why_empty(effect)})"
    size = f"{signed(effect.mean, d)} {analysis.unit}".rstrip()
    seeds = plural(effect.n, "fresh seed")
    if effect.n < effect.n_planned:
        lost = f", {effect.n_diverged} diverged" if effect.n_diverged else ""
        seeds = f"{effect.n} of {plural(effect.n_planned, 'fresh seed')}{lost}"
    if effect.n < 2:
        return f"{size}{where} ({seeds}, so no interval)"
    p = p_value(effect.p_holm)
    name = "Holm p" if effects.tested(comparison) > 1 else "p"
    said = f"{name} {'< ' if p.startswith('<') else '= '}{p.removeprefix('<')}".replace(" ", "\xa0")
    return f"{size} {interval(effect.low, effect.high, d)}{where} ({seeds}, {said})"


def _unequal(record: SearchRecord) -> str:
    """How many trials the arms with something to search had, where they differ; else empty."""
    counts = {arm.label: len(arm.trials) for arm in record.arms if arm.space}
    return ", ".join(f"{label} {n}" for label, n in counts.items()) if len(set(counts.values())) > 1 else ""


def _provenance(record: SearchRecord, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Facts about where the numbers come from."""
    facts = [("Search", record.search), ("Experiment", record.experiment), ("Created", record.created)]
    manifest = next(iter(record.comparisons.values()), None)
    if manifest is None:
        return [*facts, ("Harness", record.harness_version), ("Fingerprint", record.fingerprint)]
    hours = runs["seconds_total"].sum() / 3600
    told = [fact for fact in provenance(manifest, runs) if fact[0] not in ("Study", "Experiment", "Created")]
    return [*facts, *told, ("Run time", f"{hours:.2g} hours, the wall time of all these runs added up")]
