"""A run of a search: found in any study of the results folder, or trained now, never twice; knows no trials."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.experiment import RunSpec
from harness.metrics import OBJECTIVES, usable
from harness.store.folders import FinishedRuns
from harness.store.locks import Claims
from harness.store.merge import adopt
from harness.store.reader import Key, find_row
from harness.study.workers.job import Job
from harness.study.workers.local import Pool, lost
from harness.study.workers.turns import POLL
from harness.training.session import Place
from harness.tricks import registry
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
    place: Place
    pool: Pool
    stopped: threading.Event
    images: str
    refused: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    _claims: Claims = field(init=False)
    _stored: FinishedRuns = field(init=False)
    _looking: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._claims, self._stored = Claims(self.results), FinishedRuns(self.results)

    def score(self, spec: RunSpec) -> Score:
        """What a trial may know of a run. Columns of the test split are not read."""
        columns = {name: usable(o.metrics, [self.place.device]).name for name, o in OBJECTIVES.items()}
        row = self.obtain(spec, ("status", "reason", *columns.values()))
        return Score(row["status"], row["reason"] or "", {o: row[column] for o, column in columns.items()})

    def obtain(self, spec: RunSpec, columns: Sequence[str] = ("status",)) -> dict[str, Any]:
        """Those columns of the run's row, which lies in the search's folder afterwards.

        Raises:
            OSError: the folder cannot be written.
            CancelledError: the search was stopped.
        """
        job = Job(spec, self.experiment, self.folder, self.place, registry.identify(spec, self.images))
        while not self._claims.take(job.key):
            if self.stopped.wait(POLL):
                raise CancelledError("stopped")
        try:
            self._bring(job.key)
            row = find_row(self.folder, job.key, columns)
            if row is None or row["status"] == "failed":
                reason = self.refused.get(spec.arm.names)
                if reason:
                    lost(job, reason)
                else:
                    self.pool.do(job)
                row = find_row(self.folder, job.key, columns)
        finally:
            self._claims.give(job.key)
        if row is None:
            raise OSError(f"the row of run {spec.run_id} cannot be read back from {self.folder}")
        return row

    def _bring(self, key: Key) -> None:
        """Copy the run from another study that finished it; failed ones are tried again."""
        with self._looking:
            self._stored.refresh()
            folder = self._stored.find(key, self.folder)
        if folder is not None:
            adopt(self.folder, {key: folder})
