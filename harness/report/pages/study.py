"""One study as one HTML document that opens from disk without a network."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
from markupsafe import Markup

from harness.analysis.outcomes import Outcomes
from harness.analysis.probe import LOSS, SEEDS, Probed
from harness.analysis.replication import Replication
from harness.analysis.sequential import looked
from harness.analysis.stages import TrainedBefore
from harness.analysis.sweep import SHRUNK_FROM, Sweep
from harness.analysis.types import Analysis, DesignAnalysis, Effect, Finding
from harness.experiment import BASELINE
from harness.report.drawings.cost import cost, front, options, told
from harness.report.drawings.curves import SMOOTHING, Panel, curve_data, curve_panel, curve_panels
from harness.report.drawings.effects import forest, pairs
from harness.report.drawings.lanes import drawable
from harness.report.drawings.svg import swatch
from harness.report.load import Loaded, load, preface
from harness.report.pages.arms import ArmTable, arm_table
from harness.report.pages.designs import DesignSection, design_section
from harness.report.pages.frame import BADGES, paragraphs, render
from harness.report.pages.outcomes import OutcomesSection, class_names, outcomes_section
from harness.report.pages.provenance import LostRuns, lost_runs, provenance
from harness.report.pages.recipes import RecipeSection, recipe_sections
from harness.report.pages.writing import write_page
from harness.report.text.commands import arm_commands
from harness.report.text.foreign import claims
from harness.report.text.kinds import Headline, headline, kinds_of
from harness.report.text.numbers import clear_of_zero, confidence, decimals, margin_of, metric_name
from harness.report.text.references import ArmCheck, Direction, check, count
from harness.report.text.replications import rows
from harness.report.text.tables import variance_rows
from harness.store.schema import Manifest

SHOWN_ARMS = 8
"""Curves drawn at first; the others are a click away."""

SHOWN_PAIRS = 12
"""Seed-by-seed plots outside the fold."""

TOLD_ARMS = 8
"""With more arms than this, verdicts are told as counts first and sentences are folded by kind."""


@dataclass(frozen=True)
class VerdictSection:
    """The verdicts, in the order in which they are told, and by kind of verdict.

    `headline` counts the additions, and the arms of other kinds apart. `family` is how many p values were corrected
    together. `found_from` is the effect that half of the undecided arms would have shown, or None where nothing is
    undecided. `apart` are the arms whose test and interval for all arms at once say different things.
    """

    verdicts: Sequence[Effect]
    kinds: Sequence[tuple[str, Sequence[Effect]]]
    headline: Headline
    family: int
    found_from: float | None
    folded: bool
    apart: Sequence[str]


@dataclass(frozen=True)
class CurveSection:
    """Learning curves: each panel with its first drawing, and what the page's script draws.

    An entry of the legend is an arm's number, name and line sample, and whether it is drawn at first.
    """

    panels: Sequence[tuple[Panel, Markup]]
    legend: Sequence[tuple[int, str, Markup, bool]]
    data: Markup
    smoothing: float = SMOOTHING


@dataclass(frozen=True)
class FindingGroup:
    """Findings with one title and severity, each with its number on the page and the arms that show it."""

    severity: str
    title: str
    advice: str
    members: tuple[tuple[int, Finding, tuple[str, ...]], ...]

    @property
    def arms(self) -> list[str]:
        """All arms that show it, each once."""
        return list(dict.fromkeys(arm for *_, arms in self.members for arm in arms))


def grouped(findings: Sequence[tuple[Finding, Sequence[str]]]) -> list[FindingGroup]:
    """The findings by severity and title, in the order in which they come; advice that they share stands once."""
    groups: dict[tuple[str, str], list[tuple[int, Finding, tuple[str, ...]]]] = {}
    for i, (finding, arms) in enumerate(findings):
        groups.setdefault((finding.severity, finding.title), []).append((i, finding, tuple(arms)))
    return [
        FindingGroup(
            severity, title, found[0][1].advice if len({f.advice for _, f, _ in found}) == 1 else "", tuple(found)
        )
        for (severity, title), found in groups.items()
    ]


@dataclass(frozen=True)
class CostSection:
    """Gain against cost: the drawing, and the options on the front in words."""

    drawing: Markup
    front: Sequence[str]


@dataclass(frozen=True)
class PublishedSection:
    """What was published about the arms, and how many of these figures there are of each direction."""

    checks: Sequence[ArmCheck]
    directions: Mapping[Direction, int]


@dataclass(frozen=True)
class ReplicationSection:
    """What was replicated: the comparison, and its table, whose rows have a text by heading."""

    found: Replication
    rows: Sequence[Mapping[str, str]]
    headings: Sequence[str]


@dataclass(frozen=True)
class StudyPage:
    """The variables of the template: what was declared and found, and a section each; None or empty ones are left out.

    `forests` is the same drawing on a linear and on a logarithmic axis; `missing` are the arms that it lacks.
    `sweep` is what many arms share. `variance` is a table whose rows have a text by heading. `by_images` are the
    effects whose pairs of runs are listed.
    """

    manifest: Manifest
    analysis: Analysis
    metric: str
    level: str
    margin: str | None
    digits: int
    linked: Collection[str]
    preface: Sequence[str]
    answer: VerdictSection
    looked: str
    replication: ReplicationSection | None
    probes: Sequence[Probed]
    arms: ArmTable
    sweep: Sweep | None
    forests: Sequence[Markup]
    missing: Sequence[str]
    design: DesignSection | None
    recipes: Sequence[RecipeSection]
    curves: CurveSection | None
    findings: Sequence[FindingGroup]
    pairs: Sequence[Markup]
    outcomes: OutcomesSection | None
    cost: CostSection | None
    before: TrainedBefore | None
    published: PublishedSection | None
    variance: Sequence[Mapping[str, str]]
    by_images: Sequence[Effect]
    lost: Sequence[LostRuns]
    problems: Sequence[str]
    provenance: Sequence[tuple[str, str]]
    claims: str
    commands: Mapping[str, str]
    shown_pairs: int = SHOWN_PAIRS
    shrunk_from: int = SHRUNK_FROM
    loss: float = LOSS
    probe_seeds: int = SEEDS


def render_study(
    manifest: Manifest,
    analysis: Analysis,
    runs: pd.DataFrame,
    points: pd.DataFrame,
    problems: Sequence[str],
    design: DesignAnalysis | None = None,
    findings: Sequence[tuple[Finding, Sequence[str]]] = (),
    outcomes: Outcomes | None = None,
    preface: str = "",
    linked: Collection[str] = (),
    replication: Replication | None = None,
    sweep: Sweep | None = None,
    probes: Sequence[Probed] = (),
    before: TrainedBefore | None = None,
) -> str:
    """The study's page.

    Args:
        manifest: what was declared.
        analysis: its effects.
        runs: the study's own, as `harness.report.load.Loaded` has them; so for `points`.
        points: of their learning curves.
        problems: files that could not be read, one line each.
        design: what the arms say about the tricks together.
        findings: of the curves, each with the arms that show it.
        outcomes: what the predictions show beside their accuracy.
        preface: what was expected and what was found, in plain text; empty lines separate paragraphs.
        linked: tricks that have a page on the site; empty for a page that stands alone.
        replication: how old and fresh effects compare, in a study that replicates another one.
        sweep: what the arms of a large study share.
        probes: what arms that collapsed did at lower learning rates.
        before: the runs that its arms need, and what they took.
    """
    ranked = sorted(drawable(analysis.effects), key=lambda e: e.mean, reverse=analysis.higher_is_better)
    names = list(dict.fromkeys([BASELINE, *(e.arm for e in ranked), *(a.label for a in manifest.arms)]))
    commands, kinds = arm_commands(manifest), kinds_of(manifest)
    page = StudyPage(
        manifest=manifest,
        analysis=analysis,
        metric=metric_name(analysis.metric),
        level=confidence(analysis),
        margin=margin_of(analysis),
        digits=decimals(analysis),
        linked=linked,
        preface=paragraphs(preface),
        answer=_answer(analysis, names, kinds),
        looked=looked(manifest.looks, manifest.alpha, manifest.level, manifest.study),
        replication=_replication(replication, analysis),
        probes=probes,
        arms=arm_table(manifest, analysis, findings, commands, kinds),
        sweep=sweep,
        forests=[forest(analysis), forest(analysis, log=True)] if ranked else [],
        missing=[e.arm for e in analysis.effects if e not in ranked],
        design=design_section(design, analysis) if design else None,
        recipes=recipe_sections(manifest, analysis, design, decimals(analysis)),
        curves=_curves(curve_panels(points, names), names),
        findings=grouped(findings),
        pairs=[pairs(e, analysis) for e in ranked],
        outcomes=outcomes_section(outcomes, class_names(runs, len(outcomes.accuracy))) if outcomes else None,
        cost=_cost(analysis),
        before=before,
        published=_published(manifest, analysis),
        variance=variance_rows(analysis),
        by_images=[e for e in ranked[:SHOWN_PAIRS] if e.images],
        lost=lost_runs(manifest, runs),
        problems=problems,
        provenance=provenance(manifest, runs),
        claims=claims(manifest, analysis.metric),
        commands=commands,
    )
    return render("study.html.j2", page)


def write_report(
    study_dir: Path, reports: Path, metric: str | None = None, linked: Collection[str] = ()
) -> tuple[Path, Loaded]:
    """Render a study's page to `reports/<study>.html`, with links to the pages of the tricks in `linked`.

    Raises:
        UserError: the folder cannot be written.
    """
    words = preface(study_dir)
    loaded = load(study_dir, metric)
    html = render_study(
        loaded.manifest,
        loaded.analysis,
        loaded.runs,
        loaded.points,
        loaded.data.problems,
        loaded.design,
        loaded.findings(),
        outcomes=loaded.outcomes(),
        preface=words,
        linked=linked,
        replication=loaded.replication,
        sweep=loaded.sweep,
        probes=loaded.probes,
        before=loaded.trained_before,
    )
    # Not the name inside, which a foreign file could choose.
    return write_page(reports / f"{study_dir.name}.html", html), loaded


def _answer(analysis: Analysis, names: Sequence[str], of_arms: Mapping[str, str]) -> VerdictSection:
    groups = list(dict.fromkeys(of_arms.values()))
    told = sorted(
        analysis.effects,
        key=lambda e: (list(BADGES).index(e.verdict.kind), groups.index(of_arms[e.arm]), names.index(e.arm)),
    )
    kinds = dict.fromkeys(e.verdict.kind for e in told)
    sizes = [e.mde for e in told if e.verdict.kind == "undecided" and math.isfinite(e.mde)]
    return VerdictSection(
        verdicts=told,
        kinds=[(kind, [e for e in told if e.verdict.kind == kind]) for kind in kinds],
        headline=headline(told, of_arms),
        family=analysis.family,
        found_from=median(sizes) if sizes else None,
        folded=len(told) > TOLD_ARMS,
        apart=[e.arm for e in told if _apart(e, analysis.alpha)],
    )


def _apart(effect: Effect, alpha: float) -> bool:
    """Whether the corrected test rejects and the interval for all arms at once holds zero, or the other way round."""
    return math.isfinite(effect.low_all) and (effect.p_holm < alpha) != clear_of_zero(effect.low_all, effect.high_all)


def _curves(panels: Sequence[Panel], names: Sequence[str]) -> CurveSection | None:
    if not panels:
        return None
    first = {s.arm for p in panels for s in p.first(SHOWN_ARMS)}
    drawn = sorted({s.arm for p in panels for s in p.series})
    return CurveSection(
        panels=[(p, curve_panel(p, names, SHOWN_ARMS)) for p in panels],
        legend=[(i, names[i], swatch(i), i in first) for i in drawn],
        data=curve_data(panels, names),
    )


def _replication(found: Replication | None, analysis: Analysis) -> ReplicationSection | None:
    listed = rows(found, decimals(analysis)) if found else []
    return ReplicationSection(found, listed, list(listed[0])) if found and listed else None


def _cost(analysis: Analysis) -> CostSection | None:
    drawing = cost(analysis)
    return CostSection(drawing, [told(o, analysis) for o in front(options(analysis))]) if drawing else None


def _published(manifest: Manifest, analysis: Analysis) -> PublishedSection | None:
    checks = check(manifest, analysis)
    return PublishedSection(checks, count(checks)) if checks else None
