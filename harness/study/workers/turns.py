"""Which runs of a study are to be trained now, when other commands may train the same ones at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import TracebackType

from harness.store.folders import FinishedRuns
from harness.store.locks import Claims
from harness.store.merge import adopt
from harness.store.reader import find_row
from harness.study.workers.job import Finished, Job
from harness.study.workers.storing import lost

POLL = 0.5
"""Seconds between looks at runs that other commands train."""


class Turns:
    """The jobs that are left, each begun by one process at a time, and after the runs that it needs.

    A run that another command is training comes later; one that it has finished meanwhile is taken over. One that needs
    a run without a result ends as that did. As a context, it lets go of all runs at its end.
    """

    def __init__(self, jobs: Sequence[Job], ended: dict[str, Finished] | None = None) -> None:
        """Jobs of one study, which are not empty; the study's lock is held, so nobody else writes to its folder.

        `ended` are runs that ended before, by id; those of this one join them.
        """
        self._left = deque(jobs)
        self._open = {job.spec.run_id for job in jobs}
        self._ended = {} if ended is None else ended
        self._folder = jobs[0].study_dir
        self._claims = Claims(self._folder.parent)
        self._stored = FinishedRuns(self._folder.parent, leave_out=self._folder)

    def __enter__(self) -> Turns:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._claims.close()

    def __len__(self) -> int:
        """How many jobs have not been begun."""
        return len(self._left)

    def next(self) -> tuple[Job, Finished | None] | None:
        """A job to begin, or one that needs no doing; None while others are at work on what all that is left needs.

        A job to begin is this process's until `end`.
        """
        for _ in range(len(self._left)):
            job = self._left.popleft()
            if not self._open.isdisjoint(job.needs) or not self._claims.take(job.key):
                self._left.append(job)
                continue
            found = self._without_stage(job) or self._found(job)
            if found is not None:
                self.end(job, found)
            return job, found
        return None

    def end(self, job: Job, finished: Finished) -> None:
        """Say that the job is stored."""
        self._claims.give(job.key)
        self._open.discard(job.spec.run_id)
        self._ended[job.spec.run_id] = finished

    def _without_stage(self, job: Job) -> Finished | None:
        """The end of a job that needs a run without a result."""
        for run_id in job.needs:
            stage = self._ended.get(run_id)
            if stage is not None and stage.status != "ok":
                return lost(job, f"{stage.reason} (in {stage.arm}, seed {stage.seed}, which it needs)", stage.status)
        return None

    def _found(self, job: Job) -> Finished | None:
        """The job as another command has finished it."""
        self._stored.refresh()
        folder = self._stored.find(job.key)
        if folder is None or not job.settled:
            return None
        adopt(self._folder, {job.key: folder})
        row = find_row(self._folder, job.key, ("reason", "seconds_total", "val_accuracy"))
        if row is None:  # it has gone meanwhile
            return None
        facts = (row["status"], row["reason"] or "", row["seconds_total"] or 0.0)
        return Finished(job.called, job.spec.seed, *facts, row["val_accuracy"])
