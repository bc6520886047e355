"""From a study's folder to its page, table or figures: read, analyse, render, write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.diagnosis import context_of, diagnose_arms
from harness.analysis.effects import analyse
from harness.analysis.interactions import analyse_design
from harness.analysis.outcomes import Outcomes, summarise, tabulate
from harness.analysis.rows import own_rows
from harness.analysis.types import Analysis, DesignAnalysis, Finding
from harness.errors import UserError, did_you_mean
from harness.report import tables
from harness.report.render import render_study
from harness.store.reader import StudyData, read_manifest, read_study
from harness.store.schema import Manifest
from harness.store.writer import atomically

SEARCH = "search.json"
SEVERITIES = ("problem", "warning", "info")
TABLES = {"csv": tables.to_csv, "markdown": tables.to_markdown, "latex": tables.to_latex}
PICTURES = ("svg", "png", "pdf")
FORMATS = ("html", *TABLES, *PICTURES)
FIGURES = ("forest", "curves", "cost", "pairs")


def study_dirs(results: Path, names: Sequence[str]) -> list[Path]:
    """The folders of the named studies and searches (see `is_search`), or of all.

    Raises:
        UserError: a name is unknown, or there is nothing at all.
    """
    patterns = [f"{place}*/{record}" for place in ("published/", "") for record in ("study.json", SEARCH)]
    known = {p.parent.name: p.parent for pattern in patterns for p in sorted(results.glob(pattern))}
    if not known:
        raise UserError(f"no study in {results}; run `harness ablate TRICK` first or name its folder with --results")
    for name in names:
        if name not in known:
            raise UserError(f"unknown study '{name}'{did_you_mean(name, known)} Known: {', '.join(known)}")
    return [known[n] for n in names] if names else list(known.values())


def is_search(folder: Path) -> bool:
    """Whether a folder holds a search, which has a page of its own kind and neither tables nor figures."""
    return (folder / SEARCH).exists()


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
        own = own_rows(data.runs, self.manifest)
        runs = own.assign(arm=own["label"])
        stored = set(runs["arm"])
        arms = [arm.label for arm in self.manifest.arms if arm.label in stored]
        found: dict[Finding, list[str]] = {}
        for arm, findings in diagnose_arms(runs, data.curves, arms, context).items():
            for finding in findings:
                found.setdefault(finding, []).append(arm)
        return sorted(found.items(), key=lambda item: SEVERITIES.index(item[0].severity))

    def outcomes(self) -> Outcomes | None:
        """What the predictions show, or what they showed where the study was published without them."""
        made = tabulate(self.data, [self.manifest])
        return summarise(made.to_pandas() if made.num_rows else self.data.outcomes, self.data.runs, self.manifest)


def load(study_dir: Path, metric: str | None = None) -> Loaded:
    """Read and analyse a study."""
    manifest = read_manifest(study_dir)
    data = read_study(study_dir, manifest.runs)
    effects = analyse(data.runs, manifest, metric=metric, correct=data.correct(manifest.fingerprint))
    return Loaded(manifest, data, effects, analyse_design(data.runs, manifest, metric))


def preface(study_dir: Path) -> str:
    """What the author of a study says of it in `preface.txt`: plain text, paragraphs apart; empty if there is none."""
    try:
        return (study_dir / "preface.txt").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(
            f"{study_dir / 'preface.txt'} cannot be read: {error.strerror}; it must be a text file"
        ) from None


def write_report(
    study_dir: Path, reports: Path, metric: str | None = None, linked: Collection[str] = ()
) -> tuple[Path, Loaded]:
    """Render a study's page to `reports/<study>.html`, with links to the pages of the tricks in `linked`.

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
        outcomes=loaded.outcomes(),
        preface=preface(study_dir),
        linked=linked,
    )
    page = reports / f"{study_dir.name}.html"  # not the name inside, which a foreign file could choose
    _write(page, html.encode())
    return page, loaded


def _write(path: Path, content: bytes) -> None:
    """A file in the folder of the reports, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"report {path} cannot be written: {error.strerror}; choose a folder with --reports") from None


def table(study_dir: Path, form: str, metric: str | None = None, arms: Sequence[str] = ()) -> str:
    """The ablation table of the named arms, or of all, as CSV, Markdown or LaTeX.

    Raises:
        UserError: there is no such arm, or a LaTeX table has no room for so many.
    """
    return TABLES[form](load(study_dir, metric).analysis, arms)


def write_figure(loaded: Loaded, name: str, path: Path, arms: Sequence[str] = (), width: float = 8.5) -> None:
    """One of `FIGURES` of the named arms, or of all, as the kind of file that the path ends with.

    Raises:
        UserError: as in `harness.report.plots.figure`, and where the folder cannot be written.
    """
    from harness.report import plots  # matplotlib takes longer to load than a page to render

    source = plots.Source(loaded.analysis, own_rows(loaded.data.runs, loaded.manifest), loaded.data.curves)
    _write(path, plots.figure(name, path.suffix[1:], source, arms, width))
