"""Scores that were made elsewhere: `judge`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from harness.cli.ends import Ends, FailOn, Summary
from harness.cli.options import AsJson, Reports, Results, print_json
from harness.cli.printing import print_comparison, print_findings
from harness.errors import UserError


def judge(
    paths: Annotated[list[Path], typer.Argument(help="A table with a row for each run, or logs of a known program.")],
    metric: Annotated[str | None, typer.Option(help="Column of the score.")] = None,
    method: Annotated[str | None, typer.Option(help="Column of the method; several are joined by commas.")] = None,
    seed: Annotated[str | None, typer.Option(help="Column of the seed.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Method that the others are compared with.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of the score: percent, fraction or none.")] = None,
    better: Annotated[str | None, typer.Option(help="higher or lower, where the name does not say.")] = None,
    margin: Annotated[
        float | None, typer.Option(help="Smallest difference that matters, in points (0.5 by default) or its own unit.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Column of the data set: each value is judged on its own.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only runs with COLUMN=VALUE; may be repeated.")] = None,
    row: Annotated[str, typer.Option(help="Row of a curve: last, first, or max, min or best with :COLUMN.")] = "last",
    cost: Annotated[str | None, typer.Option(help="Column of the training time in seconds.")] = None,
    pairs: Annotated[str, typer.Option(help="Seeds: all that a method shares with the baseline, or common.")] = "all",
    folds: Annotated[
        str | None, typer.Option(help="The seeds are folds of one cross-validation: test/train, as 1/9 for ten folds.")
    ] = None,
    duplicates: Annotated[
        str | None, typer.Option(help="Which run of a method and seed counts where there are several: first or last.")
    ] = None,
    reader: Annotated[str | None, typer.Option("--from", help="Reader, where the path does not say.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what was understood, and write nothing.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the study; the file's by default.")] = None,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    as_json: AsJson = False,
    fail_on: FailOn = None,
    summary: Summary = None,
) -> None:
    """Judge runs that were trained elsewhere: paired effects, intervals, verdicts and a page. Trains nothing."""
    from harness.judging.judge import across, explained, source_of
    from harness.judging.judge import judge as judged_of
    from harness.judging.options import Options
    from harness.judging.understand import understand
    from harness.readers.record import Unit

    ends = Ends(fail_on, summary)
    _one_of("--unit", unit, "percent", "fraction", "none")
    _one_of("--better", better, "higher", "lower")
    _one_of("--pairs", pairs, "all", "common")
    _one_of("--duplicates", duplicates, "first", "last")
    how, _, column = row.partition(":")
    if (how not in ("last", "first") or column) and (how not in ("max", "min", "best") or not column):
        raise UserError(f"--row {row}: it is last, first, max:COLUMN, min:COLUMN or best:COLUMN")
    options = Options(
        method=method,
        seed=seed,
        metric=metric,
        baseline=baseline,
        unit=cast("Unit | None", unit),
        better=cast('Literal["higher", "lower"] | None', better),
        margin=margin,
        by=by,
        where=tuple(where or ()),
        row=row,
        cost=cost,
        folds=None if folds is None else _ratio(folds),
        pairs=cast('Literal["all", "common"]', pairs),
        duplicates=cast('Literal["first", "last"] | None', duplicates),
    )
    source = source_of(paths, reader)
    if explain:
        found = understand(source.runs, options, source.unit)
        if as_json:
            print_json([{"block": what.block, **what.said, "notes": what.notes} for what in found])
        else:
            typer.echo("\n".join([f"source: {source.said}, {len(source.runs)} runs", *explained(found)]))
        return
    studies = judged_of(source, options, name, results, reports, ["harness", *sys.argv[1:]])
    compared = across(studies)
    if as_json:
        listed: list[dict[str, Any]] = [
            {"study": s.folder.name, "page": str(s.page), "analysis": asdict(s.loaded.analysis)} for s in studies
        ]
        print_json({"studies": listed, "comparison": asdict(compared) if compared else None})
        ends.finish(study.loaded for study in studies)
        return
    for study in studies:
        if compared:
            typer.echo(f"{study.folder.name}:")
        for note in study.loaded.manifest.notes:
            typer.echo(f"note: {note}")
        print_findings(study.loaded, study.loaded.findings())
        typer.echo(f"report: {study.page}")
    if compared:
        print_comparison(compared)
    ends.finish(study.loaded for study in studies)


def _ratio(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--folds {text}: test / training images, as 1/9 for ten folds") from None


def _one_of(option: str, value: str | None, *known: str) -> None:
    if value is not None and value not in known:
        raise UserError(f"{option} {value}: choose one of {', '.join(known)}")
