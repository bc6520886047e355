"""Sacred's FileStorageObserver: DIR/N/config.json, run.json and metrics.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.readers.record import Reader, Run
from harness.readers.table import flat, plain


def read(path: Path) -> Iterator[Run]:
    """The runs of a folder of runs, or of one run's folder; `result` is what the main function returned."""
    for folder in _folders(path):
        config, run = _json(folder / "config.json"), _json(folder / "run.json")
        metrics = _json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
        curve: dict[float, dict[str, float]] = {}
        for name, series in metrics.items():
            for step, value in zip(series["steps"], series["values"], strict=True):
                at = curve.setdefault(float(step), {"step": float(step)})
                if (number := plain(value)) is not None and isinstance(number, int | float):
                    at[name] = float(number)
        values = {k: v for k, cell in flat(config).items() if (v := plain(cell)) is not None}
        if (result := plain(run.get("result"))) is not None:
            values["result"] = result
        status = str(run.get("status", ""))
        why = "" if status == "COMPLETED" else f"Sacred calls it {status or 'nothing'}"
        yield Run(values, str(folder), [curve[at] for at in sorted(curve)], why)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    found = [path, *sorted(path.iterdir())]
    return [f for f in found if (f / "config.json").is_file() and (f / "run.json").is_file()]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no object, which Sacred writes there")
    return found


SACRED = Reader("sacred", "Sacred's FileStorageObserver: a folder of runs", lambda p: bool(_folders(p)), read)
