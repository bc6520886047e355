"""Studies side by side: `compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import AsJson, Results, print_json
from harness.cli.printing import print_comparison
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.analysis.compare import Comparison


def compare(
    studies: Annotated[list[str], typer.Argument(help="Two or more studies in the results folder.")],
    results: Results = Path("results"),
    html: Annotated[
        Path | None, typer.Option(help="Write the comparison as a page, for example reports/clean-or-noisy.html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the same arms across studies: two machines, versions, models or data sets."""
    if len(set(studies)) < 2:
        raise UserError(f"compare {' '.join(studies)}: name at least two different studies")
    if html is not None:
        from harness.report.load import load, study_dirs
        from harness.report.pages.compare import write_comparison

        loaded = {d.name: load(d) for d in study_dirs(results, studies)}
        typer.echo(f"comparison: {write_comparison(loaded, html)}", err=as_json)
    if as_json:
        print_json(asdict(compared(studies, results)))
    elif html is None:
        print_comparison(compared(studies, results))


def compared(studies: list[str], results: Path) -> Comparison:
    """The same arms in several studies of a results folder."""
    from harness.analysis.compare import compare
    from harness.report.load import load, study_dirs

    return compare({d.name: load(d).analysis for d in study_dirs(results, studies)})
