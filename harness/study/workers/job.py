"""A run to do and what became of it, as values that travel between processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.content import content
from harness.experiment import RunSpec
from harness.identity import Identity
from harness.store.reader import Key
from harness.training.session import Place
from harness.tricks import registry


@dataclass(frozen=True)
class Job:
    """One run to do and where its rows go. `identity` is what its images and code were when it was planned."""

    spec: RunSpec
    experiment: str
    study_dir: Path
    place: Place
    identity: Identity

    @staticmethod
    def of(spec: RunSpec, experiment: str, study_dir: Path, place: Place) -> Job:
        """A run on the images and code that are here now."""
        identity = registry.identify(spec, content(spec.data, place.data_root).digest)
        return Job(spec, experiment, study_dir, place, identity)

    @property
    def key(self) -> Key:
        """What the run's row is found by."""
        return self.spec.run_id, self.identity.short, self.place.fingerprint(self.spec)["fingerprint"]


@dataclass(frozen=True)
class Finished:
    """What became of a job: the columns that a progress line shows."""

    arm: str
    seed: int
    status: str
    reason: str
    seconds: float
    val_accuracy: float | None


@dataclass(frozen=True)
class EpochEnd:
    """How far a run is: `points` of its curves since it was last told, each (epoch, step, split, metric, value)."""

    arm: str
    seed: int
    epoch: int
    epochs: int
    points: tuple[tuple[int, int, str, str, float], ...]


@dataclass(frozen=True)
class Rows:
    """What one run leaves, as plain values that travel between processes: the arguments of `write_run`."""

    row: dict[str, Any]
    points: list[dict[str, Any]]
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray] | None
