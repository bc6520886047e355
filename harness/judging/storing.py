"""Judged runs as rows and a declaration in the store, on which all that reads studies works."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.errors import UserError
from harness.experiment import BASELINE
from harness.judging.cells import Cell
from harness.judging.guards import by_arm
from harness.judging.options import Options
from harness.judging.understand import Understood
from harness.metrics import COLUMNS
from harness.readers.logged import digest, logged
from harness.store.reader import read_manifest
from harness.store.schema import RUNS, SCHEMA_VERSION, ArmPlan, Manifest, MetricSpec
from harness.store.writer import prepare, write_manifest, write_table
from harness.version import __version__

FILE = "judged.parquet"


def store(folder: Path, what: Understood, source: str, command: str, options: Options) -> Manifest:
    """Write the study of judged runs, in place of an earlier one of the same source.

    Args:
        folder: of the study.
        what: the runs and how they are read.
        source: where they come from, in words.
        command: what judges them again; empty where no command does.
        options: of the user.

    Raises:
        UserError: the folder holds another study, or cannot be written.
    """
    if (folder / "study.json").exists() and (before := read_manifest(folder).source) != source:
        held = f"the scores of {before}" if before else "a study that was trained here"
        raise UserError(f"{folder} holds {held}; choose another name with --name")
    manifest = manifest_of(folder.name, what, source, command, options)
    prepare(folder)
    settings = _settings(what)
    rows = [_row(cell, what, manifest, settings) for cell in what.cells]
    write_table(pa.Table.from_pylist(rows, RUNS), folder / "runs" / FILE)
    write_manifest(folder, manifest)
    return manifest


def manifest_of(name: str, what: Understood, source: str, command: str, options: Options) -> Manifest:
    """The declaration of judged runs."""
    runs: dict[str, dict[int, str]] = {}
    for cell in what.cells:
        runs.setdefault(cell.arm, {})[cell.seed] = _run_id(cell, what)
    methods = [arm for arm in what.arms if arm != what.baseline]
    which = methods[0] if len(methods) == 1 else f"any of {len(methods)} methods"
    on = f" on {what.block}" if what.block else ""
    return Manifest(
        study=name,
        experiment=name,
        question=f"Is {which} better than {what.baseline}{on}?",
        metric=what.metric,
        margin=what.margin,
        alpha=options.alpha,
        design="one_at_a_time",
        seeds=tuple(sorted({c.seed for c in what.cells})),
        arms=tuple(
            ArmPlan(
                label=label(arm, what), tricks={} if arm == what.baseline else {arm: {}}, run_ids=ids, kind="addition"
            )
            for arm, ids in runs.items()
        ),
        fingerprint=_fingerprint(what),
        scope=f"{len(what.cells)} runs of {source}{on} with baseline {what.baseline}",
        command=command,
        toml="",
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=what.notes,
        source=source,
        overlap=options.folds or 0.0,
        metrics={}
        if what.metric in COLUMNS
        else {what.metric: MetricSpec(unit=what.unit, better=what.better, split=what.split)},
    )


def label(arm: str, what: Understood) -> str:
    """What an arm is called here, where the baseline is always called that."""
    if arm == what.baseline:
        return BASELINE
    return f"{arm} (method)" if arm == BASELINE else arm


def _fingerprint(what: Understood) -> str:
    return _digest([what.block, what.metric, *((c.arm, c.seed, repr(c.value)) for c in what.cells)])


def _run_id(cell: Cell, what: Understood) -> str:
    return _digest(["table", what.block, what.metric, cell.arm, cell.seed, repr(cell.value)])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _settings(what: Understood) -> set[str]:
    """Names of values that are no results: each method has one of them, whatever the seed; the score is a result."""
    names = {name for cell in what.cells for name in cell.run.values}
    arms = by_arm([cell for cell in what.cells if not cell.reason]).values()
    same = {n for n in names if all(len({repr(c.run.values.get(n)) for c in own}) == 1 for own in arms)}
    return ({*same, *what.columns}) - {what.metric}


def _row(cell: Cell, what: Understood, manifest: Manifest, settings: Collection[str]) -> dict[str, Any]:
    """The row of a run: what was not given is null, so that no check takes it for known."""
    known = COLUMNS.get(what.metric)
    lost = bool(cell.reason)
    status = "failed" if lost else "ok" if math.isfinite(cell.value) else "diverged"
    score: dict[str, Any] = {"scores": json.dumps({what.metric: cell.value}) if status == "ok" else None}
    if known is not None:
        score = {known.name: cell.value / (100.0 if what.unit == "percent" else 1.0) if status == "ok" else None}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": _run_id(cell, what),
        "fingerprint": manifest.fingerprint,
        "experiment": manifest.experiment,
        "arm": label(cell.arm, what),
        "hyperparameters": "{}",
        "seed": cell.seed,
        "status": status,
        "test_digest": digest(logged(cell.run, settings)) if status == "ok" else None,
        "reason": cell.reason or ("" if status == "ok" else f"{what.metric} is {cell.value}"),
        "seconds_train": None if math.isnan(cell.cost) else cell.cost,
    } | score
