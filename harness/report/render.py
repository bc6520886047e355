"""One study as one HTML document that opens from disk without a network."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from scipy.special import stdtrit

from harness.analysis.diagnosis import Finding
from harness.analysis.interactions import DesignAnalysis, Estimate
from harness.analysis.types import Analysis
from harness.experiment import BASELINE
from harness.report import figures, tables
from harness.store.schema import Manifest

SHOWN_ARMS = 8
"""Curves drawn at first; the others are a click away."""

SHOWN_PAIRS = 12
"""Seed-by-seed plots outside the fold."""

PANELS = (
    ("val", "accuracy", "Validation accuracy", "%", 100.0),
    ("val", "nll", "Validation negative log-likelihood", "", 1.0),
    ("train", "loss", "Training loss", "", 1.0),
)
"""Split, metric, title, unit and factor of each learning-curve plot. The test split has no curves."""

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


def render_study(
    manifest: Manifest,
    analysis: Analysis,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    problems: Sequence[str],
    design: DesignAnalysis | None = None,
    findings: Sequence[tuple[Finding, Sequence[str]]] = (),
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
    """
    arm_of = {run_id: arm.label for arm in manifest.arms for run_id in arm.run_ids.values()}
    runs = runs[runs["fingerprint"] == manifest.fingerprint]
    runs = runs.assign(label=runs["run_id"].map(arm_of), ok=runs["status"] == "ok")
    # A repeated run counts once: as finished, if it ever did, and then the latest.
    runs = runs.sort_values(["ok", "finished"], kind="stable").drop_duplicates("run_id", keep="last")
    ranked = sorted(figures.drawable(analysis.effects), key=lambda e: e.mean, reverse=analysis.higher_is_better)
    names = list(dict.fromkeys([BASELINE, *(e.arm for e in ranked), *(a.label for a in manifest.arms)]))
    panels = curve_panels(runs, curves, names)
    verdicts = sorted(analysis.effects, key=lambda e: (list(BADGES).index(e.verdict.kind), names.index(e.arm)))
    return environment.get_template("study.html.j2").render(
        manifest=manifest,
        analysis=analysis,
        verdicts=verdicts,
        counts=Counter(e.verdict.kind for e in verdicts),
        columns=tables.columns(analysis),
        rows=_table(analysis),
        forest=figures.forest(analysis) if ranked else None,
        missing=[e.arm for e in analysis.effects if e not in ranked],
        curves=[(p, figures.curve_panel(p, names, SHOWN_ARMS)) for p in panels],
        legend=[(i, names[i], figures.swatch(i)) for i in sorted({s.arm for p in panels for s in p.series})],
        curve_data=_curve_data(panels, names),
        pairs=[figures.pairs(e, analysis) for e in ranked],
        cost=figures.cost(analysis),
        variance=tables.variance_rows(analysis),
        by_images=[e for e in ranked[:SHOWN_PAIRS] if e.images],
        lost=lost_runs(manifest, runs),
        problems=problems,
        design=design,
        design_tables=design_tables(design) if design else (),
        findings=findings,
        signed=tables.signed,
        interval=tables.interval,
        p_value=tables.p_value,
        clear=tables.clear_of_zero,
        provenance=provenance(manifest, runs),
        metric=tables.metric_name(analysis.metric),
        level=tables.confidence(analysis),
        margin=None if math.isnan(analysis.margin) else f"±{tables.in_unit(analysis.margin, analysis.unit)}",
        shown_arms=SHOWN_ARMS,
        shown_pairs=SHOWN_PAIRS,
    )


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


def _table(analysis: Analysis) -> list[dict[str, Any]]:
    """The ablation table's rows with what only the page needs: sort keys, drawn intervals, emphasis."""
    effects = {e.arm: e for e in figures.drawable(analysis.effects)}
    span = figures.effect_span(list(effects.values()), figures.declared_margin(analysis))
    shown = [c for c in tables.columns(analysis) if c.key not in ("arm", "kind")]
    return [
        row
        | {
            "cells": [(c.key, c.show(row), _sort_key(row[c.key])) for c in shown],
            "bar": figures.interval_bar(effects[row["arm"]], analysis, span) if row["arm"] in effects else "",
            "strong": tables.clear_of_zero(row["low"], row["high"]),
        }
        for row in tables.effect_rows(analysis)
    ]


def _sort_key(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) and math.isfinite(value) else ""


def curve_panels(runs: pd.DataFrame, curves: pd.DataFrame, names: Sequence[str]) -> list[figures.Panel]:
    """Mean and 95 % t band over the seeds of each arm's finished runs, at every recorded epoch."""
    finished = runs.loc[runs["ok"] & runs["label"].notna(), ["run_id", "fingerprint", "label"]]
    known = curves.merge(finished, on=["run_id", "fingerprint"])
    known = known.drop_duplicates(["run_id", "fingerprint", "split", "metric", "epoch"], keep="last")
    panels = []
    for split, metric, title, unit, factor in PANELS:
        part = known[(known["split"] == split) & (known["metric"] == metric)]
        series = []
        for label, points in part.groupby("label"):
            stats = points.groupby("epoch")["value"].agg(["mean", "std", "count"])
            n = stats["count"].to_numpy()
            # One seed has no spread: NaN, and no band.
            half = stdtrit(np.where(n > 1, n - 1, np.nan), 0.975) * stats["std"].to_numpy() / np.sqrt(n)
            mean = stats["mean"].to_numpy()
            mean, low, high = (factor * v for v in (mean, mean - half, mean + half))
            epochs = [float(e) for e in stats.index]
            arm = names.index(str(label))
            series.append(figures.Series(arm, int(n.max()), epochs, mean.tolist(), low.tolist(), high.tolist()))
        if series:
            panels.append(figures.Panel(title, unit, sorted(series, key=lambda s: s.arm)))
    return panels


def _curve_data(panels: Sequence[figures.Panel], names: Sequence[str]) -> Markup:
    """What the read-out needs, as JSON that is safe inside a script element."""

    def rounded(values: Iterable[float]) -> list[float | None]:
        return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values]

    data = {
        "arms": names,
        "width": figures.PANEL[0],
        "frame": figures.PANEL_X,
        "panels": [
            {
                "unit": p.unit,
                "span": figures.curve_spans(p, SHOWN_ARMS)[0],
                "series": [
                    {
                        "arm": s.arm,
                        "n": s.n,
                        "epochs": s.epochs,
                        "mean": rounded(s.mean),
                        "low": rounded(s.low),
                        "high": rounded(s.high),
                    }
                    for s in p.series
                ],
            }
            for p in panels
        ],
    }
    return htmlsafe_json_dumps(data, separators=(",", ":"))


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
        ("Runs", f"{len(runs)} stored, {packed} of them timed beside other runs on the same device (packed)"),
    ]
