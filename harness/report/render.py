"""One study as one HTML document that opens from disk without a network."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.outcomes import Outcomes
from harness.analysis.rows import own_rows
from harness.analysis.types import Analysis, DesignAnalysis, Effect, Estimate, Finding
from harness.experiment import BASELINE
from harness.report import cost_figure, design_figures, figures, references, tables
from harness.report.commands import arm_commands
from harness.report.curves import SMOOTHING, Panel, curve_data, curve_panel, curve_panels
from harness.report.outcomes import class_names
from harness.report.outcomes import view as outcome_view
from harness.store.schema import Manifest

SHOWN_ARMS = 8
"""Curves drawn at first; the others are a click away."""

SHOWN_PAIRS = 12
"""Seed-by-seed plots outside the fold."""

TOLD_ARMS = 8
"""With more arms than this, verdicts are told as counts first and sentences are folded by kind."""

BADGES = {
    "helps": "▲",
    "helps slightly": "△",
    "hurts": "▼",
    "hurts slightly": "▽",
    "equivalent": "=",
    "undecided": "?",
    "inactive": "○",
    "no verdict": "·",
    "failed": "✕",
    "skipped": "∅",
    "reference": "",
}
"""Sign of each verdict, so that colour is never alone; also the order in which verdicts are told."""

environment = Environment(
    loader=PackageLoader("harness.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.globals["badges"] = BADGES


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a plain text, which empty lines separate."""
    return [p for p in re.split(r"\n\s*\n", text.strip()) if p]


def render_study(
    manifest: Manifest,
    analysis: Analysis,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    problems: Sequence[str],
    design: DesignAnalysis | None = None,
    findings: Sequence[tuple[Finding, Sequence[str]]] = (),
    outcomes: Outcomes | None = None,
    preface: str = "",
    linked: Collection[str] = (),
) -> str:
    """The study's page.

    Args:
        manifest: what was declared.
        analysis: its effects.
        runs: stored runs of the study; those of other fingerprints are left out, as in the analysis.
        curves: their learning curves.
        problems: files that could not be read, one line each.
        design: what the arms say about the tricks together.
        findings: of the curves, each with the arms that show it.
        outcomes: what the predictions show beside their accuracy.
        preface: what was expected and what was found, in plain text; empty lines separate paragraphs.
        linked: tricks that have a page on the site; empty for a page that stands alone.
    """
    runs = own_rows(runs, manifest)
    ranked = sorted(figures.drawable(analysis.effects), key=lambda e: e.mean, reverse=analysis.higher_is_better)
    names = list(dict.fromkeys([BASELINE, *(e.arm for e in ranked), *(a.label for a in manifest.arms)]))
    panels = curve_panels(runs, curves, names)
    verdicts = sorted(analysis.effects, key=lambda e: (list(BADGES).index(e.verdict.kind), names.index(e.arm)))
    digits, commands = tables.decimals(analysis), arm_commands(manifest)
    published = references.check(manifest, analysis)
    return environment.get_template("study.html.j2").render(
        manifest=manifest,
        analysis=analysis,
        preface=paragraphs(preface),
        verdicts=verdicts,
        kinds=[
            (k, [e for e in verdicts if e.verdict.kind == k]) for k in dict.fromkeys(e.verdict.kind for e in verdicts)
        ],
        found_from=_found_from(verdicts),
        family=sum(math.isfinite(e.p) for e in verdicts),
        told_arms=TOLD_ARMS,
        columns=_columns(analysis),
        rows=_table(manifest, analysis, findings, commands),
        places={arm.label: i for i, arm in enumerate(manifest.arms)},
        commands=commands,
        forests=[figures.forest(analysis), figures.forest(analysis, log=True)] if ranked else None,
        missing=[e.arm for e in analysis.effects if e not in ranked],
        curves=[(p, curve_panel(p, names, SHOWN_ARMS)) for p in panels],
        legend=_legend(panels, names),
        curve_data=curve_data(panels, names),
        smoothing=SMOOTHING,
        pairs=[figures.pairs(e, analysis) for e in ranked],
        cost=cost_figure.cost(analysis),
        front=[cost_figure.told(o, analysis) for o in cost_figure.front(cost_figure.options(analysis))],
        variance=tables.variance_rows(analysis),
        by_images=[e for e in ranked[:SHOWN_PAIRS] if e.images],
        lost=lost_runs(manifest, runs),
        problems=problems,
        linked=linked,
        published=published,
        directions=references.count(published),
        design=design,
        design_figures=design_drawings(design, analysis) if design else None,
        order_chosen=bool(design and design.order),
        design_tables=design_tables(design) if design else (),
        findings=grouped(findings),
        outcomes=outcome_view(outcomes, class_names(runs, len(outcomes.accuracy))) if outcomes else None,
        number=lambda value: tables.number(value, digits),
        reach=tables.in_unit(round(figures.tick_reach(analysis.effects), digits), analysis.unit),
        signed=lambda value: tables.signed(value, digits),
        interval=lambda low, high: tables.interval(low, high, digits),
        p_value=tables.p_value,
        clear=tables.clear_of_zero,
        plural=tables.plural,
        contents=contents,
        provenance=provenance(manifest, runs),
        metric=tables.metric_name(analysis.metric),
        level=tables.confidence(analysis),
        margin=None if math.isnan(analysis.margin) else f"±{tables.in_unit(analysis.margin, analysis.unit)}",
        shown_pairs=SHOWN_PAIRS,
    )


def _legend(panels: Sequence[Panel], names: Sequence[str]) -> list[tuple[int, str, Markup, bool]]:
    """Number, name and line sample of each arm that has a curve, and whether it is drawn at first."""
    at_first = {s.arm for p in panels for s in p.first(SHOWN_ARMS)}
    return [(i, names[i], figures.swatch(i), i in at_first) for i in sorted({s.arm for p in panels for s in p.series})]


def contents(main: str) -> list[tuple[str, str]]:
    """Id and heading of each section of the page's body, for its table of contents."""
    found = re.findall(r'<h2 id="([^"<>]+)">([^<>]+)</h2>', main)
    return [(id_, Markup(title).unescape()) for id_, title in found]


@dataclass(frozen=True)
class Group:
    """Findings with one title and severity, each with its number on the page and the arms that show it."""

    severity: str
    title: str
    advice: str
    members: tuple[tuple[int, Finding, tuple[str, ...]], ...]

    @property
    def arms(self) -> list[str]:
        """All arms that show it, each once."""
        return list(dict.fromkeys(arm for *_, arms in self.members for arm in arms))


def grouped(findings: Sequence[tuple[Finding, Sequence[str]]]) -> list[Group]:
    """The findings by severity and title, in the order in which they come; advice that they share stands once."""
    groups: dict[tuple[str, str], list[tuple[int, Finding, tuple[str, ...]]]] = {}
    for i, (finding, arms) in enumerate(findings):
        groups.setdefault((finding.severity, finding.title), []).append((i, finding, tuple(arms)))
    return [
        Group(severity, title, found[0][1].advice if len({f.advice for _, f, _ in found}) == 1 else "", tuple(found))
        for (severity, title), found in groups.items()
    ]


def _found_from(effects: Sequence[Effect]) -> float | None:
    """The effect that half of the undecided arms would have shown, or None where nothing is undecided."""
    sizes = [e.mde for e in effects if e.verdict.kind == "undecided" and math.isfinite(e.mde)]
    return median(sizes) if sizes else None


def design_drawings(design: DesignAnalysis, analysis: Analysis) -> dict[str, Markup | None]:
    """The figures of a design by name; None for those that it does not allow."""
    whole = {trick for factor in design.factors for trick in factor.split("+")}
    total = next((e for e in figures.drawable(analysis.effects) if set(e.tricks) == whole), None)
    digits = tables.decimals(analysis)
    return {
        "map": design_figures.interaction_map(design, digits),
        "half": design_figures.half_normal(design, digits),
        "waterfall": design_figures.waterfall(design, total, digits),
    }


def design_tables(design: DesignAnalysis) -> list[tuple[str, str, Sequence[Estimate]]]:
    """Title, meaning and rows of each table that the design allows."""
    candidates = [
        (
            "Steps of the stack",
            "Each trick's paired difference from the arm before it, in the order of stacking.",
            design.steps,
        ),
        (
            "Main effects",
            "On against off, averaged over all settings of the other tricks.",
            design.fit.main if design.fit else (),
        ),
        (
            "Interactions",
            "Difference of differences: what two tricks do together beyond the sum of what each does alone.",
            design.interactions,
        ),
        ("Added alone", "Should I add it to my baseline?", design.one_at_a_time),
        (
            "Left out of the full stack",
            "Can I drop it from my stack? What the stack gains by having it.",
            design.leave_one_out,
        ),
        (
            "Shapley values",
            "How do I share the credit of the stack? They add up to the effect of the full stack.",
            design.shapley,
        ),
    ]
    return [(title, meaning, rows) for title, meaning, rows in candidates if rows]


FIRST = ("arm", "kind", "effect", "low", "wins", "n", "p", "p_holm")
"""Columns of the page's table that come first, so that a narrow window shows them without scrolling."""


def _columns(analysis: Analysis) -> list[tables.Column]:
    """The table's columns, those of the answer first; the seeds stand beside the interval that sums them up."""
    found = {c.key: c for c in tables.columns(analysis)}
    return [found[key] for key in dict.fromkeys((*(k for k in FIRST if k in found), *found))]


def _table(
    manifest: Manifest,
    analysis: Analysis,
    findings: Sequence[tuple[Finding, Sequence[str]]],
    commands: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The ablation table's rows with what only the page needs: sort keys, drawings, emphasis, flags, commands."""
    effects = {e.arm: e for e in analysis.effects}
    drawable = figures.drawable(analysis.effects)
    span = figures.effect_span(drawable, figures.declared_margin(analysis))
    reach = figures.tick_reach(analysis.effects)
    shown = [c for c in _columns(analysis) if c.key not in ("arm", "kind")]
    flags: dict[str, list[tuple[int, Finding]]] = {}
    for i, (finding, arms) in enumerate(findings):
        for arm in arms if finding.severity != "info" else ():
            flags.setdefault(arm, []).append((i, finding))
    rows = []
    for row in tables.effect_rows(analysis):
        effect = effects.get(row["arm"])
        drawings = {
            "low": figures.interval_bar(effect, analysis, span) if effect in drawable else "",
            "wins": figures.seed_ticks(effect, manifest.seeds, analysis, reach) if effect and effect.n else "",
        }
        rows.append(
            row
            | {
                "cells": [(c.key, c.show(row), _sort_key(row[c.key]), drawings.get(c.key, "")) for c in shown],
                "strong": tables.clear_of_zero(row["low"], row["high"]),
                "flags": flags.get(row["arm"], ()),
                "command": commands.get(row["arm"]),
            }
        )
    return rows


def _sort_key(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) and math.isfinite(value) else ""


def lost_runs(manifest: Manifest, runs: pd.DataFrame) -> list[dict[str, str]]:
    """Every planned run without a result, grouped by arm and reason."""
    found = {row.run_id: (str(row.status), str(row.reason)) for row in runs.itertuples()}
    groups: dict[tuple[str, str, str], list[int]] = {}
    for arm in manifest.arms:
        for seed in manifest.seeds:
            status, reason = found.get(arm.run_ids.get(seed, ""), ("missing", "no stored run"))
            if arm.skipped is not None:
                status, reason = "skipped", arm.skipped
            if status != "ok":
                groups.setdefault((arm.label, status, reason), []).append(seed)
    return [
        {"arm": arm, "status": status, "reason": reason, "seeds": ", ".join(map(str, seeds))}
        for (arm, status, reason), seeds in groups.items()
    ]


def provenance(manifest: Manifest, runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Facts about where the numbers come from. Several values mean that the runs differ in it."""

    def values(column: str) -> list[str]:
        return sorted({str(v) for v in runs[column].dropna() if v != ""})

    versions = sorted({f"{k} {v}" for text in values("versions") for k, v in json.loads(text).items()})
    commits = [
        f"{commit if isinstance(commit, str) else 'unknown'}{' with uncommitted changes' if dirty is True else ''}"
        for commit, dirty in runs[["git_commit", "git_dirty"]].drop_duplicates().itertuples(index=False)
    ]
    packed = int(runs["packed"].fillna(False).astype(bool).sum())
    return [
        ("Study", manifest.study),
        ("Experiment", manifest.experiment),
        ("Created", manifest.created),
        ("Harness", manifest.harness_version),
        ("Git commit", ", ".join(commits) or "unknown"),
        ("Device", ", ".join(values("device")) or "unknown"),
        ("Hosts", str(len(values("host")))),
        ("Versions", ", ".join(versions) or "unknown"),
        ("Fingerprint", manifest.fingerprint),
        ("Data", ", ".join(h[:16] for h in values("data_hash")) or "unknown"),
        *_unproven(runs),
        ("Runs", f"{len(runs)} stored, {packed} of them timed beside other runs on the same device (packed)"),
        *_graphs(runs),
    ]


def _unproven(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """How many runs cannot prove which images and code they are of."""
    old = int(runs["identity"].isna().sum())
    if not old:
        return []
    text = f"{old} of {len(runs)} runs are of a version that did not record what their images and code were"
    return [("Identity", f"{text}; they are paired among themselves only, and never taken for other studies")]


def _graphs(runs: pd.DataFrame) -> list[tuple[str, str]]:
    """Which runs replayed their steps as CUDA graphs, where that was asked for: the others' timings are longer."""
    asked = runs[runs["plain_steps"].notna()]
    if asked.empty:
        return []
    plain = asked[asked["plain_steps"] != ""]
    whys = [f"{arm} ({why})" for arm, why in plain[["arm", "plain_steps"]].drop_duplicates().itertuples(index=False)]
    text = f"{len(asked) - len(plain)} of {len(asked)} runs replayed their training steps"
    return [("CUDA graphs", "; ".join([text, *(f"plain steps in {why}" for why in whys)]))]
