"""What a pool of workers is, whatever they are: jobs begin when a worker is free, and end as rows on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import CancelledError, Future

from harness.errors import UserError
from harness.study.workers.job import EpochEnd, Finished, Job
from harness.study.workers.processes import CannotStart, Died
from harness.study.workers.storing import lost

TRIES = 2
"""A run whose worker died is tried once more, then stored as failed."""


class Pool(ABC):
    """Workers that any number of threads share. Rows are on disk before a job is finished."""

    @abstractmethod
    def start(self, job: Job, told: Callable[[EpochEnd], None] = lambda news: None) -> Future[Finished]:
        """Begin a job as soon as a worker is free; `outcome` takes what comes of it, and `told` gets its epochs."""

    @abstractmethod
    def stop(self) -> None:
        """End the workers at once; threads that wait in `do` get `CancelledError`."""

    def outcome(self, future: Future[Finished], job: Job, tries: int) -> Finished | None:
        """What became of a job that has ended for the `tries`-th time, or None when it must be started again.

        Raises:
            UserError: no worker can start.
            OSError: the rows cannot be written.
            CancelledError: the pool was stopped.
        """
        try:
            return future.result()
        except Died as how:
            return lost(job, f"the worker process died {TRIES} times: {how}") if tries >= TRIES else None
        except (OSError, CancelledError, UserError):
            raise
        except CannotStart as error:
            raise UserError(
                f"the worker processes could not start ({error}); `harness doctor` says what is broken, "
                "and --plugin files must also import in a worker"
            ) from None
        except Exception as error:
            return lost(job, f"{type(error).__name__}: {error}")

    def do(self, job: Job) -> Finished:
        """Do a job and wait for its end; see `outcome` for what it raises."""
        finished, tries = None, 0
        while finished is None:
            tries += 1
            finished = self.outcome(self.start(job), job, tries)
        return finished
