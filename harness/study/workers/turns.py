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

POLL = 0.5
"""Seconds between looks at runs that other commands train."""


class Turns:
    """The jobs that are left, each begun by one process at a time.

    A run that another command is training comes later; one that it has finished meanwhile is taken over. As a context,
    it lets go of all runs at its end.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        """Jobs of one study, which are not empty; the study's lock is held, so nobody else writes to its folder."""
        self._left = deque(jobs)
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
        """A job to begin, or one that turned out to be finished; None while others are at work on all that is left.

        A job to begin is this process's until `end`.
        """
        for _ in range(len(self._left)):
            job = self._left.popleft()
            if not self._claims.take(job.key):
                self._left.append(job)
                continue
            self._stored.refresh()
            folder = self._stored.find(job.key)
            if folder is None:
                return job, None
            adopt(self._folder, {job.key: folder})
            found = self._taken_over(job)
            if found is None:  # it has gone meanwhile
                return job, None
            self.end(job)
            return job, found
        return None

    def end(self, job: Job) -> None:
        """Say that the job is stored."""
        self._claims.give(job.key)

    def _taken_over(self, job: Job) -> Finished | None:
        row = find_row(self._folder, job.key, ("reason", "seconds_total", "val_accuracy"))
        if row is None:
            return None
        facts = (row["status"], row["reason"] or "", row["seconds_total"] or 0.0)
        return Finished(job.spec.arm.label, job.spec.seed, *facts, row["val_accuracy"])
