"""SQLite files that are only read: MLflow's (since 3.7 its default) and Optuna's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.readers.record import Reader, Run
from harness.readers.table import plain


def _rows(path: Path, query: str) -> list[Sequence[Any]]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as base:
            return base.execute(query).fetchall()
    except sqlite3.Error as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _has(path: Path, *tables: str) -> bool:
    """Whether a path is a database with these tables."""
    try:
        with path.open("rb") as file:
            if not file.read(16).startswith(b"SQLite format 3"):
                return False
        known = {name for (name,) in _rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (OSError, UserError):
        return False
    return set(tables) <= known


def read_mlflow(path: Path) -> Iterator[Run]:
    """The runs of an MLflow database that are not deleted: params and tags are settings, metrics the curve by step."""
    params, metrics = _rows(path, "SELECT run_uuid, key, value FROM params"), _rows(
        path, "SELECT run_uuid, step, key, value FROM metrics WHERE is_nan = 0 ORDER BY timestamp"
    )  # fmt: skip
    for run_id, name, status in _rows(
        path, "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time"
    ):
        values = {key: v for owner, key, value in params if owner == run_id and (v := plain(value)) is not None}
        curve: dict[int, dict[str, float]] = {}
        for owner, step, key, value in metrics:
            if owner == run_id:
                curve.setdefault(step, {"step": float(step)})[key] = float(value)
        why = "" if status == "FINISHED" else f"MLflow calls it {status}"
        yield Run({"name": name, **values}, f"{path.name}, run {run_id}", [curve[s] for s in sorted(curve)], why)


def read_optuna(path: Path) -> Iterator[Run]:
    """The trials of an Optuna storage, which are refused as what a sampler chose (`harness.judging.guards`)."""
    params = _rows(path, "SELECT trial_id, param_name, param_value FROM trial_params")
    scores = _rows(path, "SELECT trial_id, objective, value FROM trial_values")
    for trial, number, state in _rows(path, "SELECT trial_id, number, state FROM trials ORDER BY number"):
        values = {f"params_{name}": value for owner, name, value in params if owner == trial}
        values |= {f"value_{objective}": value for owner, objective, value in scores if owner == trial}
        yield Run({"number": number, "state": state, **values}, f"trial {number}")


MLFLOW_DB = Reader(
    "mlflow-db",
    "MLflow's database (mlflow.db)",
    lambda p: p.is_file() and _has(p, "runs", "params", "metrics"),
    read_mlflow,
)
OPTUNA = Reader(
    "optuna", "Optuna's storage, whose trials are not judged",
    lambda p: p.is_file() and _has(p, "trials", "trial_params", "trial_values"), read_optuna,
)  # fmt: skip
