"""From a file of runs to judged studies and their pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.analysis.compare import Comparison, compare
from harness.errors import UserError
from harness.judging.options import Options
from harness.judging.storing import store
from harness.judging.understand import Understood, understand
from harness.names import check_free, checked_name
from harness.readers.record import Run, Unit
from harness.readers.registry import reader_for
from harness.readers.table import runs_of
from harness.report.load import Loaded
from harness.report.pages.study import write_report
from harness.store.locks import alone


@dataclass(frozen=True)
class Source:
    """Runs, where they come from in words, a name for their study, and the unit of their accuracies if known."""

    runs: Sequence[Run]
    said: str
    name: str
    unit: Unit | None


@dataclass(frozen=True)
class Judged:
    """A judged study: its folder, its page, and its effects."""

    folder: Path
    page: Path
    loaded: Loaded


def source_of(paths: Sequence[Path], reader: str | None = None) -> Source:
    """The runs of files or folders.

    Raises:
        UserError: a path cannot be read, or holds no run.
    """
    runs: list[Run] = []
    chosen = [reader_for(path, reader) for path in paths]
    for path, how in zip(paths, chosen, strict=True):
        runs += how.read(path)
    said = f"{', '.join(path.name for path in paths[:3])}{f' and {len(paths) - 3} others' if len(paths) > 3 else ''}"
    if not runs:
        raise UserError(f"{said}: no run in it; give a table with a row for each run, or a folder of logs")
    units = {how.unit for how in chosen}
    first = paths[0]
    return Source(runs, said, first.stem or first.resolve().name, units.pop() if len(units) == 1 else None)


def source_of_frame(frame: pd.DataFrame) -> Source:
    """The rows of a data frame as runs."""
    return Source(list(runs_of(frame)), "a data frame", "judged", None)


def judge(
    source: Source,
    options: Options,
    name: str | None = None,
    results: Path = Path("results"),
    reports: Path = Path("reports"),
    words: Sequence[str] = (),
) -> list[Judged]:
    """Store and judge runs: a study for each value of `options.by`.

    Args:
        source: the runs.
        options: what the user says of them.
        name: of the study; the file's by default. With `by`, it is followed by the value.
        results: the folder of studies.
        reports: the folder of pages.
        words: the command line that judges them again.

    Raises:
        UserError: the runs cannot be judged, or the name is that of something else; says what to do.
    """
    found = understand(source.runs, options, source.unit)
    base = checked_name(slug(source.name) if name is None else name)
    names = [f"{base}-{slug(what.block)}" if what.block else base for what in found]
    if len(set(names)) < len(names):
        raise UserError(f"--by {options.by}: two values make one folder's name ({', '.join(names)}); rename one")
    judged = []
    for study, what in zip(names, found, strict=True):
        with alone(results / study):
            check_free(results, study, "study")
            store(results / study, what, source.said, shlex.join(words), options)
            page, loaded = write_report(results / study, reports)
        judged.append(Judged(results / study, page, loaded))
    return judged


def across(judged: Sequence[Judged]) -> Comparison | None:
    """The effects over several data sets, with a random-effects mean; None of one."""
    return compare({j.folder.name: j.loaded.analysis for j in judged}) if len(judged) > 1 else None


def slug(text: str) -> str:
    """A text as the name of a folder: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "judged"


def explained(found: Sequence[Understood]) -> list[str]:
    """What was understood, in lines."""
    lines: list[str] = []
    for what in found:
        lines += [f"{subject}: {text}" for subject, text in what.said.items()]
        lines += [f"note: {note}" for note in what.notes]
    return lines
