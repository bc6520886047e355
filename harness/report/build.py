"""From a study's folder to its page or table: read, analyse, render, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.analysis.effects import analyse
from harness.analysis.types import Analysis
from harness.errors import UserError, did_you_mean
from harness.report import tables
from harness.report.render import render_study
from harness.store.reader import StudyData, read_manifest, read_study
from harness.store.schema import Manifest
from harness.store.writer import atomically

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


def load(study_dir: Path, metric: str | None = None) -> tuple[Manifest, StudyData, Analysis]:
    """A study's declaration, rows and effects."""
    manifest = read_manifest(study_dir)
    data = read_study(study_dir, {i for arm in manifest.arms for i in arm.run_ids.values()})
    return manifest, data, analyse(data.runs, manifest, metric=metric, correct=data.correct())


def write_report(study_dir: Path, reports: Path, metric: str | None = None) -> tuple[Path, Analysis]:
    """Render a study's page to `reports/<study>.html`.

    Raises:
        UserError: the folder cannot be written.
    """
    manifest, data, analysis = load(study_dir, metric)
    html = render_study(manifest, analysis, data.runs, data.curves, data.problems)
    page = reports / f"{manifest.study}.html"
    try:
        reports.mkdir(parents=True, exist_ok=True)
        atomically(page, lambda file: file.write(html.encode()))
    except OSError as error:
        raise UserError(f"report {page} cannot be written: {error.strerror}; choose a folder with --reports") from None
    return page, analysis


def table(study_dir: Path, form: str, metric: str | None = None) -> str:
    """The ablation table as CSV, Markdown or LaTeX."""
    _, _, analysis = load(study_dir, metric)
    to = {"csv": tables.to_csv, "markdown": tables.to_markdown, "latex": tables.to_latex}[form]
    return to(analysis)
