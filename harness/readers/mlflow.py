"""MLflow's files: mlruns/EXPERIMENT/RUN/meta.yaml, params/NAME and metrics/NAME with lines "timestamp value step"."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.readers.epochs import settings_of
from harness.readers.record import Reader, Run
from harness.readers.table import plain

FINISHED = (3, "FINISHED")


def _folders(path: Path) -> list[Path]:
    metas = sorted(path.rglob("meta.yaml")) if path.is_dir() else []
    return [meta.parent for meta in metas if (meta.parent / "metrics").is_dir() and (meta.parent / "params").is_dir()]


def read(path: Path) -> Iterator[Run]:
    """The runs below a folder that are not deleted."""
    for folder in _folders(path):
        meta = settings_of(folder / "meta.yaml")
        if meta.get("lifecycle_stage") == "deleted":
            continue
        params = [p for p in sorted((folder / "params").rglob("*")) if p.is_file()]
        values = {
            p.relative_to(folder / "params").as_posix(): v
            for p in params
            if (v := plain(p.read_text(encoding="utf-8"))) is not None
        }
        name = meta.get("run_name")
        curve: dict[int, dict[str, float]] = {}
        for file in sorted((folder / "metrics").rglob("*")):
            if file.is_file():
                metric = file.relative_to(folder / "metrics").as_posix()
                for step, value in _points(file):
                    curve.setdefault(step, {"step": float(step)})[metric] = value
        status = meta.get("status")
        why = "" if status in FINISHED else f"MLflow calls it {status}"
        yield Run({**({"name": name} if name else {}), **values}, str(folder), [curve[s] for s in sorted(curve)], why)


def _points(file: Path) -> Iterator[tuple[int, float]]:
    """Step and value of each line; what is no number was none when it was logged."""
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            _, value, *step = line.split()
            number = float(value)
            if not math.isnan(number):
                yield int(step[0]) if step else 0, number
        except ValueError:
            raise UserError(f"{file}: '{line}' is no line of a metric (timestamp, value, step)") from None


MLFLOW = Reader("mlflow", "MLflow's files (mlruns)", lambda p: bool(_folders(p)), read)
