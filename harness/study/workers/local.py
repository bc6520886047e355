"""A pool of persistent processes on this machine, one run at a time each.

Processes, not threads: a spinning OpenMP team loses most of its speed when another process holds one of its
cores, so every worker computes with its own pinned number of threads. Workers import torch once.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from harness.commands.kinds import of_loop
from harness.commands.place import CommandPlace
from harness.cpus import available
from harness.study.places import AnyPlace
from harness.study.workers.commands import CommandPool
from harness.study.workers.job import EpochEnd, Finished, Job, Rows
from harness.study.workers.pool import Pool
from harness.study.workers.processes import Died, Processes, tell
from harness.study.workers.storing import store
from harness.study.workers.turns import POLL, Turns
from harness.training.execute import OUT_OF_MEMORY, execute
from harness.training.loop import CurvePoint
from harness.training.place import Place
from harness.tricks import registry

Answer = TypeVar("Answer")

ENVIRONMENT = {
    # glibc gives activation memory back to the system at every step unless told otherwise, which costs
    # 5 to 25 % of a small net's step.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # torch.compile would start processes of its own in every worker.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}
MEMORY_SHARE = 0.9
"""Share of a CUDA device's memory that packed runs may fill."""

TELL_SECONDS = 0.25
"""Least time between two epochs of a run that are told of; the last one always is."""


class ProcessPool(Pool):
    """Worker processes that any number of threads share (see `open_pool`).

    A job whose worker died is done once more, and then stored as failed.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def start(self, job: Job, told: Callable[[EpochEnd], None] = lambda news: None) -> Future[Finished]:
        """As in `Pool`."""
        return self._processes.schedule(work, (job,), told)

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """The answer of a worker."""
        return self._processes.schedule(question).result()

    def stop(self) -> None:
        """As in `Pool`."""
        self._processes.stop()


@contextmanager
def open_processes(workers: int, threads: int, plugins: Sequence[Path] = ()) -> Iterator[ProcessPool]:
    """Worker processes with that many CPU threads each. Leaving early (Ctrl-C) stops them; finished runs stay."""
    begin = partial(start_worker, threads, [str(p) for p in plugins])
    with _environment(worker_environment(threads)), Processes(workers, begin) as processes:
        yield ProcessPool(processes)


def open_pool(workers: int, place: AnyPlace, plugins: Sequence[Path] = ()) -> AbstractContextManager[Pool]:
    """So many workers for runs of the kind that a place is for. Leaving early stops them; finished runs stay."""
    if isinstance(place, CommandPlace):
        return CommandPool(workers, place)
    return open_processes(workers, place.threads, plugins)


def run_jobs(jobs: Sequence[Job], workers: int, plugins: Sequence[Path] = ()) -> Iterator[Finished | EpochEnd]:
    """Do all jobs, yielding each as it ends, and epochs meanwhile.

    Closing the iterator early (Ctrl-C) stops the workers; finished runs stay.
    """
    for _, news in _each(jobs, workers, plugins):
        yield news


def run_packed(
    jobs: Sequence[Job], plugins: Sequence[Path] = (), memory: Callable[[], tuple[int, int]] | None = None
) -> Iterator[Finished | EpochEnd]:
    """Do all jobs on one CUDA device with as many workers as its memory holds.

    The first run has the device to itself, and its process is asked how much memory is left. A run that then fails
    for want of memory has the device to itself at the end. `memory` is what the process is asked.
    """
    place, rest = jobs[0].place, deque(jobs)
    ended: dict[str, Finished] = {}
    free, total = 0, 1  # nothing is known: one run at a time
    with Turns(jobs, ended) as turns, open_processes(1, place.threads, plugins) as pool:
        while rest:
            turn = turns.next()
            if turn is None:
                time.sleep(POLL)
                continue
            job, found = turn
            rest.remove(job)
            if found is not None:
                yield found
                continue
            done = pool.do(job)
            turns.end(job, done)
            yield done
            with suppress(Died):
                free, total = pool.ask(memory or device_memory)
            break
    workers = min(fitting(free, total), max(1, available().count // place.threads))
    alone = []
    for job, news in _each([_placed(job, packed=workers > 1) for job in rest], workers, plugins, ended):
        if workers > 1 and isinstance(news, Finished) and news.reason.startswith(OUT_OF_MEMORY):
            alone.append(_placed(job, packed=False))
        else:
            yield news
    yield from run_jobs(alone, 1, plugins)


def fitting(free: int, total: int) -> int:
    """How many workers a device with so many bytes holds when one has taken what is not free."""
    return 1 + max(0, int((free - (1 - MEMORY_SHARE) * total) // max(1, total - free)))


def device_memory() -> tuple[int, int]:
    """Free and all bytes of the CUDA device while this process holds the most that it has used."""
    import torch

    return torch.cuda.mem_get_info()


def _placed(job: Job, packed: bool) -> Job:
    return replace(job, place=replace(job.place, packed=packed))


def _each(
    jobs: Sequence[Job], workers: int, plugins: Sequence[Path], ended: dict[str, Finished] | None = None
) -> Iterator[tuple[Job, Finished | EpochEnd]]:
    if not jobs:
        return
    workers = min(workers, len(jobs))
    with Turns(jobs, ended) as turns, open_pool(workers, jobs[0].place, plugins) as pool:
        pending: dict[Future[Finished], tuple[Job, int]] = {}
        news: SimpleQueue[tuple[Job, Future[Finished] | EpochEnd]] = SimpleQueue()

        def start(job: Job, tries: int) -> None:
            future = pool.start(job, lambda told: news.put((job, told)))
            pending[future] = (job, tries)
            future.add_done_callback(lambda ended: news.put((job, ended)))

        while pending or turns:
            # One job more than workers, so that none waits for this process.
            while len(pending) <= workers and (turn := turns.next()) is not None:
                job, found = turn
                if found is None:
                    start(job, 1)
                else:
                    yield job, found
            if not pending and not turns:  # the last ones were found
                break
            try:
                job, what = news.get(timeout=POLL if turns else None)
            except Empty:
                continue
            if isinstance(what, EpochEnd):
                yield job, what
                continue
            job, tries = pending.pop(what)
            finished = pool.outcome(what, job, tries)
            if finished is None:
                start(job, tries + 1)
            else:
                turns.end(job, finished)
                yield job, finished


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables that must be set before a worker starts."""
    return ENVIRONMENT | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def start_worker(threads: int, plugins: Sequence[str]) -> None:
    """Runs once in each worker."""
    import torch

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    for path in plugins:
        registry.add_plugin(Path(path))


def work(job: Job) -> Finished:
    """Train one run and store it; executed in a worker."""
    return store(job, train(job))


def train(job: Job) -> Rows:
    """Train one run, in a process that `start_worker` has set up."""
    assert isinstance(job.place, Place), "a place does not fit the kind of the run"
    result = execute(of_loop(job.spec), job.experiment, job.place, job.identity, _Teller(job), job.as_stage)
    predictions = None
    if result.predictions is not None:
        p = result.predictions
        predictions = (p.index.cpu().numpy(), p.label.cpu().numpy(), p.logits.cpu().numpy())
    return Rows(result.row, [vars(p) for p in result.points], predictions, result.stage)


class _Teller:
    """Tells the parent of the epochs of a run, now and then: small networks have a hundred of them in a second."""

    def __init__(self, job: Job) -> None:
        self._job, self._told, self._points = job, time.monotonic(), list[CurvePoint]()

    def __call__(self, epoch: int, points: list[CurvePoint]) -> None:
        self._points += points
        spec = of_loop(self._job.spec)
        if time.monotonic() - self._told < TELL_SECONDS and epoch < spec.recipe.epochs:
            return
        plain = tuple((p.epoch, p.step, p.split, p.metric, p.value) for p in self._points)
        tell(EpochEnd(self._job.called, spec.seed, epoch, spec.recipe.epochs, plain))
        self._told, self._points = time.monotonic(), []


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for child processes, and put the old ones back."""
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
