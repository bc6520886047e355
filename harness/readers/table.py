"""Tables with a row for each run: CSV, TSV, JSON lines, JSON (a list of objects) and parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.readers.record import Reader, Run

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
LARGEST = 2**63
"""Whole numbers from here on are no seeds, and are read as real ones."""

EMPTY = frozenset({"", "nan", "na", "n/a", "none", "null", "-", "<na>"})


def read(path: Path) -> Iterator[Run]:
    """The rows of a table as runs; row 1 is the first one below the header.

    Raises:
        UserError: the file cannot be read as what its name says.
    """
    try:
        frame = _frame(path)
    except (OSError, ValueError, TypeError) as error:  # parsers of pandas and Arrow raise ValueErrors
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as {path.suffix[1:].lower()}: {why}; give a table of runs") from None
    yield from runs_of(frame)


def runs_of(frame: pd.DataFrame) -> Iterator[Run]:
    """The rows of a data frame as runs; headers that are repeated inside a table are left out."""
    names = [str(name).strip() for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"column '{twice[0]}' is there {names.count(twice[0])} times: rename one of them")
    for i, row in enumerate(frame.itertuples(index=False, name=None), 1):
        if all(str(cell).strip() == name for cell, name in zip(row, names, strict=True)):
            continue
        values = {name: value for name, cell in zip(names, row, strict=True) if (value := plain(cell)) is not None}
        if values:
            yield Run(values, f"row {i}")


def _frame(path: Path) -> pd.DataFrame:
    ending = path.suffix.lower()
    if ending == ".parquet":
        return pd.read_parquet(path)
    if ending in (".csv", ".tsv"):
        separator = "\t" if ending == ".tsv" else ","
        # As text, since a header that is repeated in the middle would make text of whole columns.
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    text = path.read_text(encoding="utf-8-sig")
    lines = ending != ".json"
    found = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ValueError("it holds no list of objects, one for each run")
    return pd.DataFrame([flat(row) for row in found], dtype=object)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects with dotted names: {"config": {"seed": 1}} is {"config.seed": 1}; lists are left out."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            found[f"{prefix}{key}"] = value
    return found


def plain(cell: Any) -> str | int | float | bool | None:
    """A cell as a number where it is one, else as text; None where it is empty."""
    if isinstance(cell, bool):
        return cell
    text = str(cell).strip()
    if text.lower() in EMPTY:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    if math.isnan(number):
        return None
    try:
        return int(text) if abs(number) < LARGEST else number
    except ValueError:
        return number


TABLE = Reader(
    "table", "a row for each run: csv, tsv, jsonl, json, parquet", lambda p: p.suffix.lower() in ENDINGS, read
)
