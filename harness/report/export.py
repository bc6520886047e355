"""One study as a table or as figures for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.load import Loaded, load
from harness.report.pages.writing import write_page
from harness.report.text.latex import to_latex
from harness.report.text.tables import to_csv, to_markdown

TABLES = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}
PICTURES = ("svg", "png", "pdf")
FORMATS = ("html", *TABLES, *PICTURES)
FIGURES = ("forest", "curves", "cost", "pairs")


def table(study_dir: Path, form: str, metric: str | None = None, arms: Sequence[str] = ()) -> str:
    """The ablation table of the named arms, or of all, as CSV, Markdown or LaTeX.

    Raises:
        UserError: there is no such arm, or a LaTeX table has no room for so many.
    """
    return TABLES[form](load(study_dir, metric).analysis, arms)


def write_figure(loaded: Loaded, name: str, path: Path, arms: Sequence[str] = (), width: float = 8.5) -> None:
    """One of `FIGURES` of the named arms, or of all, as the kind of file that the path ends with.

    Raises:
        UserError: as in `harness.report.drawings.paper.figure`, and where the folder cannot be written.
    """
    from harness.report.drawings import paper  # matplotlib takes longer to load than a page to render

    material = paper.Material(loaded.analysis, loaded.points)
    write_page(path, paper.figure(name, path.suffix[1:], material, arms, width))
