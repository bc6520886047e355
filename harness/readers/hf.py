"""The Trainer of Hugging Face: `trainer_state.json` and `all_results.json`. Accuracies are fractions.

Its arguments are in `training_args.bin`, a pickle, which is not read: method and seed are those of the folder's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.readers.places import of_place
from harness.readers.record import Reader, Run

STATE, RESULTS = "trainer_state.json", "all_results.json"


def _folders(path: Path) -> list[Path]:
    """Folders of runs; of one that has only checkpoints, the folder above them."""
    if not path.is_dir():
        return []
    found = {state.parent for state in path.rglob(STATE)}
    return sorted({f.parent if f.name.startswith("checkpoint-") and f != path else f for f in found})


def read(path: Path) -> Iterator[Run]:
    """The runs of an output folder, or of a folder of them."""
    for folder in _folders(path):
        last = (
            [folder / STATE] if (folder / STATE).is_file() else sorted(folder.glob(f"checkpoint-*/{STATE}"), key=_step)
        )
        curve: dict[float, dict[str, float]] = {}
        for entry in _json(last[-1]).get("log_history", []):
            numbers = {k: float(v) for k, v in entry.items() if isinstance(v, int | float)}
            curve.setdefault(numbers.get("step", 0.0), {}).update(numbers)
        finished = (folder / STATE).is_file()
        results = _json(folder / RESULTS) if (folder / RESULTS).is_file() else {}
        values = {k: v for k, v in results.items() if isinstance(v, int | float | str)}
        why = "" if finished else f"it ended at {last[-1].parent.name}"
        yield Run({**of_place(folder, path), **values}, str(folder), [curve[at] for at in sorted(curve)], why)


def _step(state: Path) -> int:
    number = state.parent.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no object, which the Trainer writes there")
    return found


HF = Reader(
    "hf", "Hugging Face's Trainer: trainer_state.json, all_results.json", lambda p: bool(_folders(p)), read, "fraction"
)
