"""What is shown of stored rows and of tricks: `report`, `site`, `publish` and `tricks`. None of these trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Plugins, Reports, Results
from harness.errors import UserError
from harness.values import parted


def report(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Study names; all in the results folder by default.")
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--format",
            help="html (a page), csv, markdown or latex (the table on stdout), svg, png or pdf (figures for papers).",
        ),
    ] = "html",
    figure: Annotated[
        str | None, typer.Option(help="Which figure: forest, curves, cost, pairs or all, which is the default.")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width of a figure in cm, 8.5 by default.")] = None,
    arms: Annotated[
        str | None, typer.Option(help="Only these arms of a table or figure: mixup,cutmix. All by default.")
    ] = None,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    metric: Annotated[
        str | None,
        typer.Option(
            help="Another metric: a stored one, as test_nll, or one of predictions, as macro_f1 or mine.py:f."
        ),
    ] = None,
) -> None:
    """Write the report of finished studies again. Needs no torch and trains nothing."""
    from harness.report.export import FIGURES, FORMATS, PICTURES, table
    from harness.report.load import is_search, study_dirs
    from harness.report.pages.study import write_report

    if output not in FORMATS:
        raise UserError(f"--format {output}: choose one of {', '.join(FORMATS)}")
    for flag, value in (("--figure", figure), ("--width", width)):
        if value is not None and output not in PICTURES:
            raise UserError(f"{flag} {value}: only figures have it; add --format {', '.join(PICTURES[:-1])} or pdf")
    if figure not in (None, "all", *FIGURES):
        raise UserError(f"--figure {figure}: choose one of {', '.join(FIGURES)} or all")
    if arms is not None and output == "html":
        raise UserError(f"--arms {arms}: the page has all arms; choose some for a table or a figure, with --format")
    chosen = parted(arms or "")
    if arms is not None and not chosen:
        raise UserError(f"--arms '{arms}': it names no arm; leave it out for all of them")

    def show(study_dir: Path) -> None:
        if is_search(study_dir):
            _report_stored_search(study_dir, output, bool(studies), reports)
        elif output in PICTURES:
            _draw(study_dir, output, FIGURES if figure in (None, "all") else (figure,), chosen, width, reports, metric)
        elif output == "html":
            page, _ = write_report(study_dir, reports, metric)
            typer.echo(f"report: {page}")
        else:
            typer.echo(table(study_dir, output, metric, chosen))

    folders = study_dirs(results, studies or [])
    refused = []
    for folder in folders:
        try:
            show(folder)
        except UserError as error:
            refused.append(error)
    for why in refused[: None if len(refused) < len(folders) else -1]:
        typer.echo(f"left out: {why}", err=True)
    if refused and (studies or len(refused) == len(folders)):
        raise refused[-1]


def _report_stored_search(folder: Path, form: str, named: bool, reports: Path) -> None:
    """Write a search's page; in other formats there is nothing of a search."""
    from harness.report.pages.search import write_search

    if form == "html":
        typer.echo(f"report: {write_search(folder, reports)}")
    elif named:
        raise UserError(f"--format {form}: {folder.name} is a search, which has a page only; leave --format out")


def _draw(
    study_dir: Path, form: str, figures: Sequence[str], arms: Sequence[str], width: float | None, reports: Path,
    metric: str | None,
) -> None:  # fmt: skip
    """Write figures of one study. Where several are wanted, one that cannot be drawn is named and left out."""
    from harness.report.export import write_figure
    from harness.report.load import load

    loaded = load(study_dir, metric)
    refused = []
    for figure in figures:
        path = reports / f"{study_dir.name}-{figure}.{form}"
        try:
            write_figure(loaded, figure, path, arms, 8.5 if width is None else width)
        except UserError as error:
            refused.append(error)
        else:
            typer.echo(f"figure: {path}")
    if len(refused) == len(figures):
        raise refused[0]
    for why in refused:
        typer.echo(f"left out: {why}", err=True)


def site(results: Results = Path("results"), reports: Reports = Path("reports"), plugin: Plugins = None) -> None:
    """Write every page again from stored rows: studies, searches, comparisons, tricks, the index and the feed."""
    from harness.report.site import write_site
    from harness.tricks import registry
    from harness.tricks.cards import cards

    for path in plugin or []:
        registry.add_plugin(path)
    done = write_site(results, reports, cards())
    typer.echo(
        f"site: {done.index} (studies {done.studies}, searches {done.searches}, comparisons {done.comparisons}, "
        f"tricks {done.tricks})"
    )
    for why in done.left_out:
        typer.echo(f"left out: {why}", err=True)


def publish(
    studies: Annotated[list[str], typer.Argument(help="Finished studies or searches in the results folder.")],
    results: Results = Path("results"),
    to: Annotated[
        Path | None, typer.Option(help="Folder of the published ones; default: published/ in the results folder.")
    ] = None,
    preface: Annotated[
        Path | None, typer.Option(help="Text file, shown before the verdicts; an empty line ends a paragraph.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Publish what there is of an unfinished study.")] = False,
) -> None:
    """Copy studies into small folders that can be committed and read again: rows, curves, no predictions or weights."""
    from harness.study import publish as publishing

    if preface is not None and len(studies) > 1:
        raise UserError(f"--preface {preface} with {len(studies)} studies: publish the study that it is for by itself")
    text = None if preface is None else publishing.read_preface(preface)
    for study_dir in publishing.find(results, studies):
        folder = publishing.publish(study_dir, to or results / "published", text, partial)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        sizes = ", ".join(f"{path.relative_to(folder)} {_size(path.stat().st_size)}" for path in files)
        typer.echo(f"published: {folder} ({_size(sum(path.stat().st_size for path in files))}): {sizes}")


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
