"""Several studies side by side as one HTML document: what flips its sign and what differs come first."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from harness.analysis.compare import ArmComparison, Comparison, Heterogeneity, compare
from harness.analysis.inference import holm
from harness.analysis.types import Analysis, Effect
from harness.experiment import BASELINE
from harness.report.drawings.lanes import declared_margin, drawable, effect_span, head, lane, mark, sample
from harness.report.drawings.svg import arm_class
from harness.report.load import Loaded
from harness.report.pages.frame import render
from harness.report.pages.writing import write_page
from harness.report.text.numbers import NONE, confidence, decimals, margin_of, metric_name, number

SHOWN_DIFFERENCES = 15
"""Rows of the table of heterogeneity outside the fold."""


class Tested(NamedTuple):
    """An arm whose heterogeneity can be tested, and the p of that test corrected for all such arms."""

    arm: ArmComparison
    found: Heterogeneity
    p_holm: float


@dataclass(frozen=True)
class StudiesForest:
    """The scale of all rows, and each arm's drawing."""

    axis: Markup
    lanes: Mapping[str, Markup]
    margin: float


@dataclass(frozen=True)
class ComparisonPage:
    """The variables of the template.

    `root` is where the site's index is from here. `keys` are the samples of the studies in the drawing, `places` the
    decimals of their effects. `tested` arms can differ by more than noise, and `differences` do. `facts` and `settings`
    have a name and a value for each study. `shared_blocks` names the pairs of studies that are compared block by block.
    """

    root: str | None
    title: str
    preface: Sequence[str]
    comparison: Comparison
    keys: Mapping[str, Markup]
    linked: Collection[str]
    tricks: Collection[str]
    flips: Sequence[ArmComparison]
    differences: Sequence[Tested]
    tested: int
    forest: StudiesForest | None
    rows: Sequence[ArmComparison]
    places: Mapping[str, int]
    units: Mapping[str, str]
    metric: str
    level: str
    facts: Sequence[tuple[str, Sequence[str]]]
    settings: Sequence[tuple[str, Sequence[str]]]
    shared_blocks: str
    most: int = SHOWN_DIFFERENCES


def render_comparison(
    studies: Mapping[str, Loaded],
    title: str = "",
    preface: str = "",
    linked: Collection[str] = (),
    tricks: Collection[str] = (),
    root: str | None = None,
) -> str:
    """The page that compares studies arm by arm.

    Args:
        studies: at least two, by name, in the order in which they are shown.
        title: heading of the page; made from the names when empty.
        preface: a paragraph before the results.
        linked: names of the studies whose pages lie beside this one.
        tricks: names of the tricks that have a page on the site.
        root: where the site's index is from here, or None outside a site.

    Raises:
        UserError: fewer than two studies, or no arm that two of them have.
    """
    analyses = {name: loaded.analysis for name, loaded in studies.items()}
    comparison = compare(analyses)
    first = next(iter(analyses.values()))
    alike = len({(a.metric, a.unit) for a in analyses.values()}) == 1
    tested = heterogeneity(comparison)
    page = ComparisonPage(
        root=root,
        title=title or " against ".join(studies),
        preface=[part for part in preface.split("\n\n") if part.strip()],
        comparison=comparison,
        keys={name: sample(arm_class(i + 1), i) for i, name in enumerate(studies)},
        linked=linked,
        tricks=tricks,
        flips=[arm for arm in comparison.arms if arm.signs == "flip"],
        differences=[t for t in tested if t.found.p < comparison.alpha],
        tested=len(tested),
        forest=_forest(comparison, analyses, first) if alike else None,
        rows=sorted(comparison.arms, key=_typical, reverse=first.higher_is_better),
        places={name: decimals(a) for name, a in analyses.items()},
        units=dict(zip(comparison.studies, comparison.units, strict=True)),
        metric=", ".join(metric_name(m) for m in dict.fromkeys(comparison.metrics)),
        level=confidence(min(analyses.values(), key=lambda a: a.alpha)),
        facts=facts(studies),
        settings=differing([settings(loaded) for loaded in studies.values()]),
        shared_blocks="; ".join(dict.fromkeys(f"{a} and {b}" for arm in comparison.arms for a, b in arm.blocks)),
    )
    return render("compare.html.j2", page)


def write_comparison(
    studies: Mapping[str, Loaded],
    page: Path,
    title: str = "",
    preface: str = "",
    tricks: Collection[str] = (),
    root: str | None = None,
) -> Path:
    """Write the page and return its path; it links to the studies' pages that lie beside it.

    Raises:
        UserError: the studies cannot be compared, or the page cannot be written.
    """
    linked = {name for name in studies if page.with_name(f"{name}.html").is_file()}
    return write_page(page, render_comparison(studies, title, preface, linked, tricks, root), "--html")


def heterogeneity(comparison: Comparison) -> list[Tested]:
    """The arms that can be tested, the least alike first."""
    known = [(arm, arm.heterogeneity) for arm in comparison.arms if arm.heterogeneity]
    adjusted = holm([found.p for _, found in known]).tolist()
    return sorted((Tested(*k, p) for k, p in zip(known, adjusted, strict=True)), key=lambda t: t.found.p)


def _typical(arm: ArmComparison) -> float:
    """What the rows are sorted by: the mean of the studies' effects; arms without any go last."""
    means = [e.mean for _, e in arm.effects if math.isfinite(e.mean)]
    return sum(means) / len(means) if means else -math.inf


def _forest(comparison: Comparison, analyses: Mapping[str, Analysis], first: Analysis) -> StudiesForest | None:
    """One lane for each arm with one interval for each study; None where no effect has an interval."""
    drawn = drawable([e for arm in comparison.arms for _, e in arm.effects])
    if not drawn:
        return None
    margins = {a.margin for a in analyses.values()}
    margin = declared_margin(first) if len(margins) == 1 else 0.0
    span = effect_span(drawn, margin)
    colours, digits = {name: (arm_class(i + 1), i) for i, name in enumerate(analyses)}, decimals(first)

    def drawing(effects: Sequence[tuple[str, Effect]]) -> Markup:
        return lane([mark(e, s, *colours[s], digits) for s, e in effects], span, margin)

    lanes = {arm.arm: drawing(arm.effects) for arm in comparison.arms}
    return StudiesForest(head(span, first.higher_is_better), lanes, margin)


def facts(studies: Mapping[str, Loaded]) -> list[tuple[str, list[str]]]:
    """Name and, for each study, value of what a reader must know to compare them."""

    def row(loaded: Loaded) -> dict[str, str]:
        m, a = loaded.manifest, loaded.analysis
        return {
            "Question": m.question,
            "Scope": m.scope,
            "Design": m.design.replace("_", " "),
            "Arms": str(sum(bool(arm.tricks) for arm in m.arms)),
            "Seeds": str(len(m.seeds)),
            "Metric": metric_name(a.metric),
            "Baseline": f"{number(a.baseline_mean, decimals(a))} ± "
            f"{number(a.baseline_sd, decimals(a))} (n = {a.baseline_n})",
            "Margin": margin_of(a) or NONE,
            "Created": m.created[:10],
        }

    columns = [row(loaded) for loaded in studies.values()]
    return [(name, [column[name] for column in columns]) for name in columns[0]]


def settings(loaded: Loaded) -> dict[str, str]:
    """What a study trained, by dotted key: its experiment file and, over it, what was resolved from that.

    The values of `--set`, `--cross` and the like are not in the file but in the specification that is stored with each
    run. Hyperparameters are those of the arms with one trick; `machine` is what changes bits.
    """
    manifest = loaded.manifest
    found = {k: v for k, v in _flat(_parsed(manifest.toml)) if k.split(".")[0] not in ("study", "tricks")}
    found |= {"experiment.question": manifest.question, "experiment.margin": manifest.margin}
    base = loaded.runs[loaded.runs["label"] == BASELINE]
    for spec, machine in base[["spec", "fingerprint_json"]].dropna().head(1).itertuples(index=False):
        resolved = {k: v for k, v in json.loads(spec).items() if k not in ("arm", "seed")}
        found |= dict(_flat(resolved)) | dict(_flat({"machine": json.loads(machine)}))
    for arm in manifest.arms:
        if len(arm.tricks) == 1 and arm.label in arm.tricks:
            found |= dict(_flat({"tricks": arm.tricks}))
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}


def _parsed(toml: str) -> dict[str, Any]:
    """An experiment file's tables; none where the text is broken, which a foreign manifest may hold."""
    try:
        return tomllib.loads(toml)
    except tomllib.TOMLDecodeError:
        return {}


def _flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested tables as dotted keys with values."""
    out: list[tuple[str, Any]] = []
    for key, value in nested.items():
        out += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return out


def differing(columns: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """The keys whose values are not the same in all columns, with the values; a dash where a key is absent.

    A study without a trick does not differ in its hyperparameters.
    """
    keys = dict.fromkeys(key for column in columns for key in column)
    rows = []
    for key in keys:
        values = [column.get(key) for column in columns]
        known = [v for v in values if v is not None]
        if len(set(known if key.startswith("tricks.") else values)) > 1:
            rows.append((key, [NONE if v is None else v for v in values]))
    return rows
