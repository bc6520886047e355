"""What a study leaves, made without training: rows, curves, manifests and whole folders for tests of what reads them.

    manifest = make_manifest(["baseline", "mixup"], seeds=10, margin=1.0)
    rows = [make_row(arm, seed, test_accuracy=0.9) for arm in manifest.arms for seed in manifest.seeds]
    make_study(tmp_path / "results" / "s", manifest)

Everything has a default, and every field can be set by its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.experiment import BASELINE
from harness.store.merge import consolidate
from harness.store.schema import METRICS, RUNS, SCHEMA_VERSION, ArmPlan, Manifest
from harness.store.writer import prepare, write_manifest, write_run

CREATED = datetime(2026, 1, 1, 12, tzinfo=UTC)
FINGERPRINT = "f00d"
VAL_SIZE = 297
METRIC_VALUES = dict(zip(METRICS, (0.9, 0.99, 0.3, 0.05, 0.15), strict=True))
"""Of a row that says nothing else; accuracies are fractions."""


def make_arm(label: str = BASELINE, seeds: int | Iterable[int] = 5, *, prefix: str = "", **changes: Any) -> ArmPlan:
    """An arm of the tricks that its label names, joined by "+", with the run "LABEL-SEED" for each seed.

    Args:
        label: "baseline" has no tricks.
        seeds: how many from 0, or which.
        prefix: of all run ids, to tell studies from each other.
        **changes: fields of `ArmPlan`.
    """
    values: dict[str, Any] = {
        "label": label,
        "tricks": {} if label == BASELINE else {name: {} for name in label.split("+")},
        "run_ids": {s: f"{prefix}{label}-{s}" for s in _seeds(seeds)},
    }
    return ArmPlan(**values | changes)


def make_manifest(
    arms: Iterable[str | ArmPlan] = (BASELINE, "mixup"), seeds: int | Iterable[int] = 5, **changes: Any
) -> Manifest:
    """A study of these arms on test accuracy, with a margin of half a point.

    Args:
        arms: labels, or arms that `make_arm` or the test itself made.
        seeds: how many from 0, or which; of the study, and of the arms given as labels.
        **changes: fields of `Manifest`.
    """
    chosen = _seeds(seeds)
    values: dict[str, Any] = {
        "study": "s",
        "experiment": "digits",
        "question": "Does it help?",
        "metric": "test_accuracy",
        "margin": 0.5,
        "alpha": 0.05,
        "design": "one_at_a_time",
        "seeds": chosen,
        "arms": tuple(make_arm(arm, chosen) if isinstance(arm, str) else arm for arm in arms),
        "fingerprint": FINGERPRINT,
        "scope": "digits, 100 training images",
        "command": "harness ablate mixup",
        "toml": "",
        "harness_version": "0.1.0",
        "created": CREATED.isoformat(),
    }
    return Manifest(**values | changes)


def make_row(arm: str | ArmPlan = BASELINE, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The row of a run that finished, as the table `RUNS` has it; columns without a default are None.

    Args:
        arm: gives label, tricks and run id; a label stands for `make_arm(label)`.
        seed: of the run.
        **changes: columns; metrics are fractions, memory is in bytes, times are in seconds.

    Raises:
        TypeError: a change is no column.
    """
    plan = make_arm(arm, (seed,)) if isinstance(arm, str) else arm
    unknown = changes.keys() - set(RUNS.names)
    if unknown:
        raise TypeError(f"no column of a run: {', '.join(sorted(unknown))}")
    run_id = changes.get("run_id", plan.run_ids.get(seed, f"{plan.label}-{seed}"))
    tricks = [{"name": name, "version": 1, "params": params} for name, params in plan.tricks.items()]
    return (
        dict.fromkeys(RUNS.names)
        | {f"{split}_{metric}": value for split in ("val", "test") for metric, value in METRIC_VALUES.items()}
        | {
            "schema_version": SCHEMA_VERSION,
            "run_id": run_id,
            "fingerprint": FINGERPRINT,
            "experiment": "digits",
            "arm": plan.label,
            "hyperparameters": json.dumps(plan.tricks),
            "spec": json.dumps({"data": {"val_size": VAL_SIZE}, "arm": {"tricks": tricks}}),
            "seed": seed,
            "status": "ok",
            "reason": "",
            "test_digest": run_id,
            "train_loss": 0.2,
            "train_accuracy": 0.99,
            "train_nll": 0.1,
            "seconds_total": 1.5,
            "seconds_train": 1.0,
            "cpu_seconds_train": 1.0,
            "seconds_other": 0.0,
            "seconds_setup": 0.0,
            "cpu_seconds_setup": 0.0,
            "cpu_seconds_other": 0.0,
            "stages": "[]",
            "role": "arm",
            "packed": False,
            "peak_memory_bytes": 100,
            "started": CREATED,
            "finished": CREATED,
            "host": "laptop",
            "device": "cpu",
            "fingerprint_json": "{}",
            "versions": '{"torch": "2.11.0"}',
            "data_hash": "ab" * 32,
            "git_commit": "0" * 12,
            "git_dirty": False,
        }
        | changes
    )


def make_curve(
    row: Mapping[str, Any],
    values: Mapping[str, Sequence[float]] | None = None,
    *,
    epochs: Sequence[int] | None = None,
    steps: int = 10,
) -> list[dict[str, Any]]:
    """The points of a run's curves, as the table `CURVES` has them.

    Args:
        row: the run's, of which run id and fingerprint are taken.
        values: by "split.metric", such as "val.accuracy" or "train.loss"; five epochs that learn by default.
        epochs: after which epoch each value was taken, from 1; counted by default.
        steps: updates in an epoch.
    """
    if values is None:
        values = {
            "train.loss": [2.0 / e for e in range(1, 6)],
            "val.accuracy": [0.9 * e / 5 for e in range(1, 6)],
            "val.nll": [1.5 / e for e in range(1, 6)],
        }
    key = {"schema_version": SCHEMA_VERSION, "run_id": row["run_id"], "fingerprint": row["fingerprint"]}
    points = []
    for name, series in values.items():
        split, _, metric = name.partition(".")
        at = range(1, len(series) + 1) if epochs is None else epochs
        points += [
            key | {"epoch": e, "step": steps * e, "split": split, "metric": metric, "value": v}
            for e, v in zip(at, series, strict=True)
        ]
    return points


class StoredRun(NamedTuple):
    """A run as it is stored: its row, its curve, and (index (N,), label (N,), logits (N, K)) of the test split."""

    row: Mapping[str, Any]
    curve: Iterable[Mapping[str, Any]] = ()
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def make_run(arm: ArmPlan, seed: int) -> StoredRun:
    """A run whose accuracy is that of its block, two points higher for each trick, and a tenth of a point of noise."""
    block, own = np.random.default_rng(seed), np.random.default_rng([seed, *arm.label.encode()])
    accuracy = min(0.88 + 0.015 * block.normal() + 0.02 * len(arm.tricks) + 0.001 * own.normal(), 1.0)
    row = make_row(arm, seed, val_accuracy=accuracy, test_accuracy=accuracy, test_nll=-math.log(accuracy))
    rise = [accuracy * e / 5 for e in range(1, 6)]
    return StoredRun(row, make_curve(row, {"train.loss": [2 * (1 - a) for a in rise], "val.accuracy": rise,
                                           "val.nll": [2.2 * (1 - a) for a in rise]}))  # fmt: skip


def make_study(
    folder: Path,
    manifest: Manifest | None = None,
    run: Callable[[ArmPlan, int], StoredRun | None] = make_run,
    *,
    declare: bool = True,
    merged: bool = True,
) -> Manifest:
    """A stored study: its declaration and the run of every arm and seed, as `harness ablate` would leave them.

    Args:
        folder: of the study; made if need be.
        manifest: the study is called like the folder by default.
        run: makes the run of an arm and a seed; None where it has none.
        declare: whether to write the declaration (a search keeps its comparisons in its record).
        merged: whether the files are merged as at a study's end, instead of one for each run.
    """
    manifest = make_manifest(study=folder.name) if manifest is None else manifest
    prepare(folder)
    if declare:
        write_manifest(folder, manifest)
    for arm in manifest.arms:
        for seed in arm.run_ids:
            made = run(arm, seed)
            if made is not None:
                write_run(folder, made.row, made.curve, made.predictions)
    if merged:
        consolidate(folder)
    return manifest


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
