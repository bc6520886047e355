"""Options that several commands share, and how their values are read and shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    pass

MOST_WORKERS = 1024

Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file with tricks of your own. Runs its code: use files you trust."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Results = Annotated[Path, typer.Option(help="Folder of all studies' rows.")]
Reports = Annotated[Path, typer.Option(help="Folder of the HTML reports.")]
ExperimentName = Annotated[str, typer.Option("--experiment", "-e", help="Bundled experiment name or .toml path.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="TRICK.PARAM=VALUE, or recipe.epochs=5; may be repeated.")
]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="CPU threads of each run; part of the fingerprint.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CudaGraphs = Annotated[
    bool,
    typer.Option("--cuda-graphs", help="On a GPU, capture training steps and replay them, where the tricks allow it."),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the data sets; default $HARNESS_DATA or ~/.cache/harness.")
]


OLD_NAMES = {"--check": "--verify"}
"""Options that were called otherwise, by their old names."""


class Renamed(TyperCommand):
    """A command that takes options by their old names, too, and says on stderr what they are called now."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        for old in OLD_NAMES.keys() & set(args):
            typer.echo(f"{old} is now called {OLD_NAMES[old]}", err=True)
        return super().parse_args(ctx, [OLD_NAMES.get(word, word) for word in args])


def duration(seconds: float) -> str:
    """A time in seconds, as text in seconds (below 90), minutes (below 90) or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_json(value: Any) -> None:
    """Print one document that every reader of JSON takes: NaN and infinities, which it has not, are null."""
    typer.echo(json.dumps(_clean(value), indent=2, allow_nan=False))


def _clean(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value
