"""A run of a search: found in any study of the results folder, or trained now, never twice; knows no trials."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from harness.commands.kinds import AnySpec, of_loop
from harness.commands.place import CommandPlace
from harness.metrics import BESIDE, COLUMNS, OBJECTIVES, usable
from harness.store.folders import FinishedRuns
from harness.store.locks import Claims
from harness.store.merge import adopt
from harness.store.reader import find_row
from harness.study.kinds import stages_at
from harness.study.places import AnyPlace, identity_at
from harness.study.stages import Stages, label_of
from harness.study.workers.job import Job
from harness.study.workers.pool import Pool
from harness.study.workers.storing import lost
from harness.study.workers.turns import POLL
from harness.tuning.commands import judged_by
from harness.tuning.objective import Score


@dataclass
class Runs:
    """Gets runs into the search's folder.

    `results` is the folder of all studies, `place` where runs are trained, `images` the content digest of the data set.
    `refused` says, by their tricks, which arms cannot be trained and why: their runs are stored as failed.
    """

    folder: Path
    results: Path
    experiment: str
    place: AnyPlace
    pool: Pool
    stopped: threading.Event
    images: str
    refused: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    _claims: Claims = field(init=False)
    _stored: FinishedRuns = field(init=False)
    _looking: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._claims, self._stored = Claims(self.results), FinishedRuns(self.results)

    def score(self, spec: AnySpec) -> Score:
        """What a trial may know of a run. Columns of the test split are not read."""
        columns = {name: usable(o.metrics, [self.place.device]).name for name, o in OBJECTIVES.items()}
        beside = {name: BESIDE.get(column, ()) for name, column in columns.items()}
        own, factor = judged_by(self.place.experiment) if isinstance(self.place, CommandPlace) else ("", 1.0)
        if own in COLUMNS:
            columns["accuracy"] = own
        row = self.obtain(
            spec, ("status", "reason", "scores", *columns.values(), *chain.from_iterable(beside.values()))
        )
        values = {
            name: None if row[column] is None else row[column] + sum(row[more] or 0.0 for more in beside[name])
            for name, column in columns.items()
        }
        if own and own not in COLUMNS and row["scores"]:
            values["accuracy"] = factor * json.loads(row["scores"])[own]
        return Score(row["status"], row["reason"] or "", values)

    def obtain(self, spec: AnySpec, columns: Sequence[str] = ("status",)) -> dict[str, Any]:
        """Those columns of the run's row, which lies in the search's folder afterwards.

        Raises:
            OSError: the folder cannot be written.
            CancelledError: the search was stopped.
        """
        job = Job(spec, self.experiment, self.folder, self.place, identity_at(self.place, spec, self.images))
        return self._obtained(job, columns, stages_at(self.place, [spec], self.images))

    def _obtained(self, job: Job, columns: Sequence[str], stages: Stages) -> dict[str, Any]:
        """The row of a job; what it needs is obtained before it is trained."""
        while not self._claims.take(job.key):
            if self.stopped.wait(POLL):
                raise CancelledError("stopped")
        try:
            row = self._stored_row(job, columns)
            if row is None or row["status"] == "failed":
                self._do(job, stages)
                row = find_row(self.folder, job.key, columns)
        finally:
            self._claims.give(job.key)
        if row is None:
            raise OSError(f"the row of run {job.spec.run_id} cannot be read back from {self.folder}")
        return row

    def _do(self, job: Job, stages: Stages) -> None:
        """Train a run, or store why it cannot be trained."""
        reason = self.refused.get(job.spec.arm.names)
        if reason:
            lost(job, reason)
            return
        for run_id in stages.direct.get(job.spec.run_id, ()):
            spec, identity = stages.specs[run_id], stages.identities[run_id]
            label = label_of(spec, of_loop(job.spec))
            stage = Job(spec, self.experiment, self.folder, self.place, identity, as_stage=True, label=label)
            row = self._obtained(stage, ("status", "reason"), stages)
            if row["status"] != "ok":
                lost(job, f"{row['reason']} (in {label}, seed {spec.seed}, which it needs)", row["status"])
                return
        self.pool.do(job)

    def _stored_row(self, job: Job, columns: Sequence[str]) -> dict[str, Any] | None:
        """The row of a finished run, copied from the study that has it; failed ones are tried again."""
        if not job.settled:
            return None
        with self._looking:
            self._stored.refresh()
            folder = self._stored.find(job.key, self.folder)
        if folder is not None:
            adopt(self.folder, {job.key: folder})
        return find_row(self.folder, job.key, columns)
