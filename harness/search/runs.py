"""A run of a search: found in any study of the results folder, or trained now; never twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.experiment import RunSpec
from harness.search.shared import Shared
from harness.search.trials import Score
from harness.store.reader import adopt, find_row, study_folders
from harness.study.workers.local import Job, Pool, lost
from harness.training.session import Place


@dataclass(frozen=True)
class Runs:
    """Gets runs into the search's folder.

    `results` is the folder of all studies, `place` where runs are trained. `refused` says, by their tricks, which arms
    cannot be trained and why: their runs are stored as failed.
    """

    folder: Path
    results: Path
    experiment: str
    place: Place
    pool: Pool
    shared: Shared
    refused: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def score(self, spec: RunSpec) -> Score:
        """What a trial may know of a run. Columns of the test split are not read."""
        # CPU time stays true when the machine is shared; on an accelerator it misses most of the work.
        seconds = "cpu_seconds_train" if self.place.device.startswith("cpu") else "seconds_train"
        columns = {"accuracy": "val_accuracy", "seconds": seconds, "memory": "peak_memory_bytes"}
        row = self.obtain(spec, ("status", "reason", *columns.values()))
        return Score(row["status"], row["reason"] or "", {o: row[column] for o, column in columns.items()})

    def obtain(self, spec: RunSpec, columns: Sequence[str] = ("status",)) -> dict[str, Any]:
        """Those columns of the run's row, which lies in the search's folder afterwards.

        Raises:
            OSError: the folder cannot be written.
            CancelledError: the search was stopped.
        """
        mark = self.place.fingerprint(spec.recipe)["fingerprint"]
        with self.shared.run(spec.run_id):
            row = self._look_up(spec.run_id, mark, columns)
            if row is None:
                job = Job(spec, self.experiment, self.folder, self.place)
                reason = self.refused.get(spec.arm.names)
                if reason:
                    lost(job, reason)
                else:
                    self.pool.do(job)
                row = find_row(self.folder, spec.run_id, mark, columns)
        if row is None:
            raise OSError(f"the row of run {spec.run_id} cannot be read back from {self.folder}")
        return row

    def _look_up(self, run_id: str, mark: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """The row of a run that finished in this search or in another study; failed ones are tried again."""
        others = (f for f in study_folders(self.results, published=False) if f != self.folder)
        for folder in (self.folder, *others):
            row = find_row(folder, run_id, mark, ("status", *columns))
            if row is not None and row["status"] != "failed":
                if folder != self.folder:
                    adopt(self.folder, folder, {(run_id, mark)})
                return row
        return None
