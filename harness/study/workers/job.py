"""A run to do and what became of it, as values that travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.commands.kinds import AnySpec
from harness.data.content import content
from harness.experiment import RunSpec
from harness.identity import Identity
from harness.store.reader import Key
from harness.store.writer import file_name
from harness.study.places import AnyPlace, machine_of
from harness.training.place import Place
from harness.training.stages import SUFFIX


@dataclass(frozen=True)
class Job:
    """One run to do and where its rows go. `identity` is what its images and code were when it was planned.

    `needs` are the runs that it needs itself: the id of each, and the file that it leaves. With `as_stage` it leaves
    such a file. `label` is how it is called where it is no arm, and is empty for a run of an arm.
    """

    spec: AnySpec
    experiment: str
    study_dir: Path
    place: AnyPlace
    identity: Identity
    needs: Mapping[str, Path] = field(default_factory=dict)
    as_stage: bool = False
    label: str = ""

    @staticmethod
    def of(spec: RunSpec, experiment: str, study_dir: Path, place: Place) -> Job:
        """A run on the images and code that are here now."""
        identity = place.identity(spec, content(spec.data, place.data_root).digest)
        return Job(spec, experiment, study_dir, place, identity)

    @property
    def called(self) -> str:
        """What a progress line calls it."""
        return self.label or self.spec.arm.label

    @property
    def stage_file(self) -> Path | None:
        """The file that it leaves for runs that need it; None where it leaves none."""
        folder = self.place.stages_dir if isinstance(self.place, Place) else None
        return stage_file(self.key, folder) if self.as_stage and folder is not None else None

    @property
    def settled(self) -> bool:
        """Whether what others need of it is there, if they need any."""
        file = self.stage_file
        return file is None or file.is_file()

    @property
    def key(self) -> Key:
        """What the run's row is found by."""
        return self.spec.run_id, self.identity.short, machine_of(self.place, self.spec)["fingerprint"]


def stage_file(key: Key, folder: Path) -> Path:
    """The file in that folder that a run leaves for runs that need it."""
    return folder / f"{Path(file_name(*key)).stem}{SUFFIX}"


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
    """What one run leaves, as plain values that travel between processes: the arguments of `write_run`.

    `stage` is the content of its file for runs that need it.
    """

    row: dict[str, Any]
    points: list[dict[str, Any]]
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    stage: bytes | None = None
