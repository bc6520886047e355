"""What a run left: its scores, its curve and its time, read from its folder and its log; no code in them runs."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.commands.experiment import CommandExperiment
from harness.commands.sections import Curve, Score
from harness.errors import UserError
from harness.readers.epochs import curve_of
from harness.readers.logged import digest, logged
from harness.readers.record import Run
from harness.readers.table import flat

NAMED = 12
"""Columns that an error lists."""


class Unfinished(Exception):
    """A run that ended well and did not leave what it should: the text says what, and what is there instead."""


@dataclass(frozen=True)
class Found:
    """Scores by name as the program gives them, rows of the curve, training seconds (None unknown), and a digest.

    The digest is of all numbers in the files that were read, so that runs which did the same can be told.
    """

    scores: Mapping[str, float]
    curve: list[dict[str, float]]
    seconds: float | None
    digest: str


def results_of(experiment: CommandExperiment, out: Path, log: Path) -> Found:
    """What a run left.

    Args:
        experiment: says where the numbers are.
        out: the run's folder.
        log: what it printed.

    Raises:
        Unfinished: a score or the end of the curve is missing.
    """
    reader = _Reader(out, log)
    scores = {name: reader.score(name, score) for name, score in experiment.metrics.items()}
    curve = reader.curve(experiment.curve) if experiment.curve else []
    seconds = None
    if experiment.cost is not None:
        file = experiment.cost.file or next((s.file for s in experiment.metrics.values() if s.file), None)
        if file is None:
            raise Unfinished("[cost] has no file, and no metric has one")
        seconds = reader.value(file, experiment.cost.seconds, "last", "cost")
    values: dict[str, Any] = {name: value for name, value in scores.items() if math.isfinite(value)}
    rows = [*curve, *(row for name, rows in reader.tables.items() for row in rows)]
    mark = digest(logged(Run(values, str(out), rows)))
    return Found(scores, curve, seconds, mark)


class _Reader:
    """The files of one run, each read once."""

    def __init__(self, out: Path, log: Path) -> None:
        self._out, self._log = out, log
        self.tables: dict[str, list[dict[str, Any]]] = {}

    def score(self, name: str, score: Score) -> float:
        if score.stdout is not None:
            return self._printed(name, score.stdout)
        assert score.file is not None
        return self.value(score.file, score.column or score.key or "", score.row, f"metrics.{name}")

    def value(self, file: str, name: str, row: str, where: str) -> float:
        """A number of a file: of a table's row, or of a JSON object."""
        rows = self._rows(file)
        how, _, column = row.partition(":")
        at = [r for r in rows if name in r and (how == "last" or _finite(r.get(column)))]
        if not at:
            known = list(dict.fromkeys(n for r in rows for n in r))
            missing = name if not any(name in r for r in rows) or how == "last" else column
            raise Unfinished(f"no {missing} in {file} ({where}); it has: {', '.join(known[:NAMED]) or 'nothing'}")
        chosen = at[-1] if how == "last" else (max if how == "max" else min)(at, key=lambda r: float(r[column]))
        try:
            return float(chosen[name])
        except (TypeError, ValueError):
            raise Unfinished(f"{name} in {file} is '{chosen[name]}', which is no number ({where})") from None

    def curve(self, curve: Curve) -> list[dict[str, float]]:
        """The rows of the curve in order; of a step that a resumed run repeats the last row counts."""
        if curve.key is None:
            self._rows(curve.file)
            try:
                rows = curve_of(self._out / curve.file, curve.step)
            except UserError as error:
                raise Unfinished(str(error)) from None
        else:
            found = self._json(curve.file)
            for part in curve.key.split("."):
                found = found.get(part) if isinstance(found, dict) else None
            if not isinstance(found, list):
                raise Unfinished(f"no list {curve.key} in {curve.file} ([curve])")
            by_step: dict[float, dict[str, float]] = {}
            for entry in found:
                numbers = {k: float(v) for k, v in entry.items() if isinstance(v, int | float)}
                if curve.step in numbers:
                    by_step.setdefault(numbers[curve.step], {}).update(numbers)
            rows = [by_step[at] for at in sorted(by_step)]
        end = rows[-1][curve.step] if rows else None
        if curve.last is not None and (end is None or end < curve.last):
            at = "is empty" if end is None else f"ends at {curve.step} {end:g}"
            raise Unfinished(f"{curve.file} {at}, and should at {curve.last:g}: the run ended early")
        return rows

    def _rows(self, file: str) -> list[dict[str, Any]]:
        if file in self.tables:
            return self.tables[file]
        path = self._out / file
        if not path.is_file():
            there = sorted(p.relative_to(self._out).as_posix() for p in self._out.rglob("*") if p.is_file())
            raise Unfinished(f"no file {file} in {{out}}; it has: {', '.join(there[:NAMED]) or 'nothing'}")
        if path.suffix == ".json":
            found = self._json(file)
            listed = found if isinstance(found, list) else [found]
            rows = [_numbers(flat(r)) for r in listed if isinstance(r, dict)]
        elif path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            rows = [_numbers(flat(json.loads(line))) for line in lines if line.lstrip().startswith("{")]
        else:
            separator = "\t" if path.suffix == ".tsv" else ","
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as text:
                table = csv.reader(text, delimiter=separator, skipinitialspace=True)
                header = [name.strip() for name in next(table, [])]
                # A resumed run writes the header again.
                rows = [
                    _numbers(dict(zip(header, row, strict=False)))
                    for row in table
                    if [cell.strip() for cell in row] != header
                ]
        self.tables[file] = rows
        return rows

    def _json(self, file: str) -> Any:
        try:
            return json.loads((self._out / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._rows(file)
            raise
        except (OSError, ValueError) as error:
            raise Unfinished(f"{file} cannot be read as JSON: {str(error).splitlines()[0]}") from None

    def _printed(self, name: str, pattern: str) -> float:
        text = self._log.read_text(encoding="utf-8", errors="replace") if self._log.is_file() else ""
        found = list(re.finditer(pattern, text, re.MULTILINE))
        if not found:
            raise Unfinished(f"nothing that the command printed matches '{pattern}' (metrics.{name})")
        last = found[-1]
        shown = last["value"] if "value" in last.re.groupindex else last[1]
        try:
            return float(shown)
        except (TypeError, ValueError):
            raise Unfinished(f"'{shown}' is no number ('{pattern}', metrics.{name})") from None


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row that say something, numbers as such, those that are not finite among them."""
    out: dict[str, Any] = {}
    for name, cell in row.items():
        text = str(cell).strip()
        if cell is None or text == "":
            continue
        try:
            out[name] = cell if isinstance(cell, bool) else float(text)
        except ValueError:
            out[name] = text
    return out


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
