"""A pool of threads that wait for commands: the work is in processes that the commands are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from harness.commands.execute import execute
from harness.commands.experiment import CommandSpec
from harness.commands.place import CommandPlace
from harness.commands.process import Running
from harness.store.writer import file_name
from harness.study.workers.job import EpochEnd, Finished, Job, Rows
from harness.study.workers.pool import Pool
from harness.study.workers.storing import store


def run_command(job: Job, cards: Sequence[str], begun: Callable[[Running], None] = lambda process: None) -> Rows:
    """Run a job that is a command, on the cards that it owns; `begun` gets its process.

    Raises:
        UserError: the code has changed since the study was planned.
        OSError: the run's folder cannot be written.
    """
    assert isinstance(job.spec, CommandSpec)
    assert isinstance(job.place, CommandPlace)
    name = Path(file_name(*job.key)).stem
    row, points = execute(job.spec, job.experiment, job.place, job.identity, name, cards, begun)
    return Rows(row, points, None)


class CommandPool(Pool):
    """So many commands at a time, each on cards of its own where they need any. As a context, it ends with all done."""

    def __init__(self, workers: int, place: CommandPlace) -> None:
        each = place.experiment.command.gpus
        self._cards: SimpleQueue[tuple[str, ...]] = SimpleQueue()
        for slot in range(workers):
            self._cards.put(place.devices[slot * each : (slot + 1) * each])
        self._threads = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()
        self._running: set[Running] = set()
        self._stopped = False

    def __enter__(self) -> CommandPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self._threads.shutdown(wait=True, cancel_futures=kind is not None)

    def start(self, job: Job, told: Callable[[EpochEnd], None] = lambda news: None) -> Future[Finished]:
        """As in `Pool`; nothing is told of epochs."""
        return self._threads.submit(self._do, job)

    def stop(self) -> None:
        """End the commands, which have some seconds to save what they want to go on from."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.stop()

    def _do(self, job: Job) -> Finished:
        mine: list[Running] = []

        def begun(process: Running) -> None:
            with self._lock:
                mine.append(process)
                self._running.add(process)
                if self._stopped:
                    process.stop()

        if self._stopped:
            raise CancelledError("stopped")
        cards = self._cards.get()
        try:
            rows = run_command(job, cards, begun)
        finally:
            self._cards.put(cards)
            with self._lock:
                self._running.difference_update(mine)
        if self._stopped:  # it did not end by itself, so it is no result
            raise CancelledError("stopped")
        return store(job, rows)
