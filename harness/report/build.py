"""From a study's folder to its page or table: read, analyse, render, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.diagnosis import Finding, context_of, diagnose_arm
from harness.analysis.effects import analyse
from harness.analysis.interactions import DesignAnalysis, analyse_design
from harness.analysis.types import Analysis
from harness.errors import UserError, did_you_mean
from harness.report import tables
from harness.report.render import render_study
from harness.store.reader import StudyData, read_manifest, read_study
from harness.store.schema import Manifest
from harness.store.writer import atomically

SEVERITIES = ("problem", "warning", "info")
FORMATS = ("html", "csv", "markdown", "latex")


def study_dirs(results: Path, names: Sequence[str]) -> list[Path]:
    """The folders of the named studies, or of all.

    Raises:
        UserError: a name is unknown, or there is no study at all.
    """
    known = {p.parent.name: p.parent for p in sorted(results.glob("published/*/study.json"))}
    known |= {p.parent.name: p.parent for p in sorted(results.glob("*/study.json"))}
    if not known:
        raise UserError(f"no study in {results}; run `harness ablate TRICK` first or name its folder with --results")
    for name in names:
        if name not in known:
            raise UserError(f"unknown study '{name}'{did_you_mean(name, known)} Known: {', '.join(known)}")
    return [known[n] for n in names] if names else list(known.values())


@dataclass(frozen=True)
class Loaded:
    """A study's declaration, its rows and its effects."""

    manifest: Manifest
    data: StudyData
    analysis: Analysis
    design: DesignAnalysis | None

    def findings(self) -> list[tuple[Finding, list[str]]]:
        """What the curves of the arms show; one entry for all arms that show the same with the same words."""
        data, context = self.data, context_of(self.data, self.manifest)
        label = {run_id: arm.label for arm in self.manifest.arms for run_id in arm.run_ids.values()}
        own = data.runs[data.runs["fingerprint"] == self.manifest.fingerprint]
        runs = dict(iter(own.assign(arm=own["run_id"].map(label)).groupby("arm")))
        curves = dict(iter(data.curves.groupby(data.curves["run_id"].map(label))))
        found: dict[Finding, list[str]] = {}
        for arm in (a.label for a in self.manifest.arms if a.label in runs):
            for finding in diagnose_arm(runs[arm], curves.get(arm, data.curves.iloc[:0]), arm, context):
                found.setdefault(finding, []).append(arm)
        return sorted(found.items(), key=lambda item: SEVERITIES.index(item[0].severity))


def load(study_dir: Path, metric: str | None = None) -> Loaded:
    """Read and analyse a study."""
    manifest = read_manifest(study_dir)
    data = read_study(study_dir, {i for arm in manifest.arms for i in arm.run_ids.values()})
    effects = analyse(data.runs, manifest, metric=metric, correct=data.correct())
    return Loaded(manifest, data, effects, analyse_design(data.runs, manifest, metric))


def write_report(study_dir: Path, reports: Path, metric: str | None = None) -> tuple[Path, Loaded]:
    """Render a study's page to `reports/<study>.html`.

    Raises:
        UserError: the folder cannot be written.
    """
    loaded = load(study_dir, metric)
    html = render_study(
        loaded.manifest,
        loaded.analysis,
        loaded.data.runs,
        loaded.data.curves,
        loaded.data.problems,
        loaded.design,
        loaded.findings(),
    )
    page = reports / f"{study_dir.name}.html"  # not the name inside, which a foreign file could choose
    try:
        reports.mkdir(parents=True, exist_ok=True)
        atomically(page, lambda file: file.write(html.encode()))
    except OSError as error:
        raise UserError(f"report {page} cannot be written: {error.strerror}; choose a folder with --reports") from None
    return page, loaded


def table(study_dir: Path, form: str, metric: str | None = None) -> str:
    """The ablation table as CSV, Markdown or LaTeX."""
    analysis = load(study_dir, metric).analysis
    to = {"csv": tables.to_csv, "markdown": tables.to_markdown, "latex": tables.to_latex}[form]
    return to(analysis)
