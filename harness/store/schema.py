"""What is stored: arrow schemas of the three tables and the study's manifest."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "diverged", "skipped"]

METRICS = ("accuracy", "top5", "nll", "ece", "brier")
"""Stored for the validation and the test split, as `val_*` and `test_*`. Accuracies are fractions in [0, 1]."""

_string, _int, _float = pa.string(), pa.int64(), pa.float64()

RUNS = pa.schema(
    [
        ("schema_version", _int),
        ("run_id", _string),
        ("fingerprint", _string),  # hash of what changes bits; effects pair rows of one fingerprint only
        ("experiment", _string),
        ("arm", _string),  # sorted trick names joined by "+", or "baseline"
        ("hyperparameters", _string),  # JSON: trick -> parameter -> value
        ("spec", _string),  # canonical JSON of the RunSpec
        ("seed", _int),
        ("status", _string),
        ("reason", _string),  # empty when ok
        *((f"{split}_{metric}", _float) for split in ("val", "test") for metric in METRICS),
        ("test_digest", _string),  # sha256 of the test logits: equal digests are identical predictions
        ("train_loss", _float),  # mean over the last epoch, of what was minimised
        ("train_accuracy", _float),  # training split without augmentation or tricks, at the end
        ("train_nll", _float),
        ("epochs_done", _int),
        ("seconds_total", _float),  # wall, set-up and evaluation included
        ("seconds_train", _float),  # wall, training steps only
        ("cpu_seconds_train", _float),  # process CPU time of the training steps
        ("seconds_other", _float),  # wall, other runs that this one asked for (teachers)
        ("seconds_per_step", _float),
        ("images_per_second", _float),
        ("packed", pa.bool_()),  # timed beside other runs on the same device
        ("peak_memory_bytes", _int),
        ("parameters", _int),
        ("forward_flops", _int),  # per image, multiply and add counted separately
        ("steps", _int),
        ("started", pa.timestamp("ms", tz="UTC")),
        ("finished", pa.timestamp("ms", tz="UTC")),
        ("host", _string),
        ("device", _string),
        ("fingerprint_json", _string),
        ("versions", _string),  # JSON: package -> version
        ("data_hash", _string),
        ("git_commit", _string),
        ("git_dirty", pa.bool_()),
    ]
)

CURVES = pa.schema(
    [
        ("schema_version", _int),
        ("run_id", _string),
        ("fingerprint", _string),
        ("epoch", _int),  # epochs completed
        ("step", _int),  # updates completed
        ("split", _string),  # train or val
        ("metric", _string),  # loss, lr, accuracy, nll, or loss/<trick>.<term>
        ("value", _float),
    ]
)


def predictions_schema(classes: int) -> pa.Schema:
    """Schema of one run's test predictions: dataset index, label and float16 logits of each image."""
    return pa.schema(
        [
            ("schema_version", _int),
            ("run_id", _string),
            ("fingerprint", _string),
            ("index", _int),
            ("label", pa.int32()),
            ("logits", pa.list_(pa.float16(), classes)),
        ]
    )


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ArmPlan(_Record):
    """One arm of a study: its label, tricks with hyperparameters, and the run of each seed.

    `skipped` is the reason why the arm cannot run, or None. `cost` is the expected step time from the cards.
    """

    label: str
    tricks: dict[str, dict[str, Any]] = {}
    run_ids: dict[int, str] = {}
    skipped: str | None = None
    summary: str = ""
    cost: float = 1.0


class Manifest(_Record):
    """A study as declared before it ran: `study.json` in the study's folder.

    `factors` are what the arms are sets of, each a trick or tricks joined by "+"; empty where they are no such sets.
    `notes` are sentences about the design that a reader of the results must know.
    """

    schema_version: int = SCHEMA_VERSION
    study: str
    experiment: str
    question: str
    metric: str
    margin: float
    alpha: float
    design: str
    seeds: tuple[int, ...]
    arms: tuple[ArmPlan, ...]
    fingerprint: str
    scope: str
    """For example "digits, 100 training images, digits_resnet (19,610 parameters), 80 epochs"."""
    command: str
    toml: str
    harness_version: str
    created: str
    factors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def family(self) -> tuple[str, ...]:
        """Labels of the arms whose p values are corrected together: all but the baseline and skipped ones."""
        return tuple(a.label for a in self.arms if a.tricks and a.skipped is None)
