"""What lies in the results folder: `ls`, `show` and `rm`. None of them needs torch."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import AsJson, Reports, Results, print_json
from harness.errors import UserError

PIPED = 160
"""Columns of a list that no terminal shows."""


@dataclass(frozen=True)
class Entry:
    """A study or a search as it is stored; `seeds` and `runs` are null of a search, which knows them at its end."""

    name: str
    kind: str
    created: str
    arms: int
    seeds: int | None
    runs: int | None
    stored: int
    bytes: int


def ls(
    names: Annotated[list[str] | None, typer.Argument(help="Study names; all by default.")] = None,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """List studies and searches, the newest first: arms, seeds, stored runs and size."""
    from rich.console import Console
    from rich.table import Table

    from harness.report.load import study_dirs

    entries = sorted((_entry(folder) for folder in study_dirs(results, names or [])), key=lambda e: e.created)[::-1]
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    table = Table("study", "begun", "arms", "seeds", "runs stored", "MB", box=None, header_style="bold")
    for e in entries:
        began = datetime.fromisoformat(e.created).strftime("%Y-%m-%d %H:%M")
        runs = str(e.stored) if e.runs is None else f"{e.stored} of {e.runs}"
        table.add_row(e.name, began, str(e.arms), str(e.seeds or ""), runs, f"{e.bytes / 1e6:.1f}")
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPED).print(table)


def show(
    name: Annotated[str, typer.Argument(help="Study in the results folder.")], results: Results = Path("results")
) -> None:
    """Say what a stored study found, as the command said that trained it."""
    from harness.cli.printing import print_findings, print_replication
    from harness.report.load import is_search, load, study_dirs

    (folder,) = study_dirs(results, [name])
    if is_search(folder):
        raise UserError(f"{name} is a search: `harness report {name}` writes its page")
    loaded = load(folder)
    typer.echo(loaded.manifest.question)
    print_findings(loaded, loaded.findings())
    print_replication(loaded)


def rm(
    names: Annotated[list[str], typer.Argument(help="Study names.")],
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> None:
    """Delete studies and searches: rows, curves, logs and pages."""
    from harness.report.load import study_dirs
    from harness.store.locks import alone

    folders = study_dirs(results, names)
    for folder in folders:
        if folder.parent != results:
            raise UserError(f"{folder.name} is published in {folder.parent}: delete it there, where it is committed")
    for folder in folders:
        e = _entry(folder)
        if yes or typer.confirm(f"Delete {e.name} with {e.stored} stored runs ({e.bytes / 1e6:.1f} MB)?"):
            with alone(folder):  # not while a command writes it
                shutil.rmtree(folder)
            (reports / f"{folder.name}.html").unlink(missing_ok=True)
            typer.echo(f"deleted {folder.name}")


def _entry(folder: Path) -> Entry:
    from harness.report.load import is_search
    from harness.store.reader import read_kind, read_manifest, read_search
    from harness.store.schema import Manifest

    record = read_search(folder) if is_search(folder) else read_manifest(folder)
    study = isinstance(record, Manifest)
    table, _, _ = read_kind(folder, "runs", record.runs)
    return Entry(
        name=folder.name,
        kind="study" if study else "search",
        created=record.created,
        arms=len(record.arms),
        seeds=len(record.seeds) if isinstance(record, Manifest) else None,
        runs=len(record.runs) if study else None,
        stored=0 if table is None else table.num_rows,
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )
