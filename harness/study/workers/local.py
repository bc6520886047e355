"""A pool of persistent processes on this machine, one run at a time each.

Processes, not threads: a spinning OpenMP team loses most of its speed when another process holds one of its
cores, so every worker computes with its own pinned number of threads. Workers import torch once.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessPool

from harness.errors import UserError
from harness.experiment import RunSpec
from harness.store.writer import write_run
from harness.training import checkpoint
from harness.training.execute import execute
from harness.training.provenance import fingerprint, host_facts
from harness.training.session import Place
from harness.tricks import registry

ENVIRONMENT = {
    # glibc gives activation memory back to the system at every step unless told otherwise, which costs
    # 5 to 25 % of a small net's step.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
TRIES = 2
"""A run whose worker died is tried once more, then stored as failed."""


@dataclass(frozen=True)
class Job:
    """One run to do and where its rows go."""

    spec: RunSpec
    experiment: str
    study_dir: Path
    place: Place


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
class Rows:
    """What one run leaves, as plain values that travel between processes: the arguments of `write_run`."""

    row: dict[str, Any]
    points: list[dict[str, Any]]
    predictions: tuple[np.ndarray, np.ndarray, np.ndarray] | None


def run_jobs(jobs: Sequence[Job], workers: int, plugins: Sequence[Path] = ()) -> Iterator[Finished]:
    """Do all jobs, yielding each as it ends. Rows are on disk before a job is yielded.

    Closing the iterator early (Ctrl-C) stops the workers; finished runs stay.
    """
    threads = jobs[0].place.threads if jobs else 1
    with _environment(worker_environment(threads)):
        pool = ProcessPool(
            max_workers=max(1, min(workers, len(jobs))),
            initializer=start_worker,
            initargs=(threads, [str(p) for p in plugins]),
            context=multiprocessing.get_context("spawn"),
        )
        try:
            pending: dict[Future[Finished], tuple[Job, int]] = {pool.schedule(work, args=(j,)): (j, 1) for j in jobs}
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    job, tries = pending.pop(future)
                    try:
                        yield future.result()
                    except ProcessExpired as error:
                        if tries < TRIES:
                            pending[pool.schedule(work, args=(job,))] = (job, tries + 1)
                        else:
                            yield lost(job, f"the worker process died {TRIES} times ({error})")
                    except OSError:
                        raise
                    except BrokenExecutor as error:
                        raise UserError(
                            f"the worker processes could not start ({error}); `harness doctor` says what is broken, "
                            "and --plugin files must also import in a worker"
                        ) from None
                    except Exception as error:
                        yield lost(job, f"{type(error).__name__}: {error}")
            pool.close()  # type: ignore[no-untyped-call]
        except BaseException:
            pool.stop()  # type: ignore[no-untyped-call]
            raise
        finally:
            pool.join()


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables that must be set before a worker starts."""
    return ENVIRONMENT | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def start_worker(threads: int, plugins: Sequence[str]) -> None:
    """Runs once in each worker."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    logging.getLogger().addHandler(logging.NullHandler())  # or the pool would print a traceback of what follows
    try:
        for path in plugins:
            registry.add_plugin(Path(path))
    except UserError as error:
        sys.stderr.write(f"error: in a worker: {error}\n")
        raise


def work(job: Job) -> Finished:
    """Train one run and store it; executed in a worker."""
    return store(job, train(job))


def train(job: Job) -> Rows:
    """Train one run, in a process that `start_worker` has set up."""
    result = execute(job.spec, job.experiment, job.place)
    predictions = None
    if result.predictions is not None:
        p = result.predictions
        predictions = (p.index.cpu().numpy(), p.label.cpu().numpy(), p.logits.cpu().numpy())
    return Rows(result.row, [vars(p) for p in result.points], predictions)


def store(job: Job, rows: Rows) -> Finished:
    """Write the rows of a run into its study's folder."""
    write_run(job.study_dir, rows.row, rows.points, rows.predictions)
    saved = checkpoint.path_of(job.spec, job.place)
    if saved is not None:
        saved.unlink(missing_ok=True)
    row = rows.row
    return Finished(
        row["arm"], row["seed"], row["status"], row["reason"], row["seconds_total"], row.get("val_accuracy")
    )


def lost(job: Job, reason: str) -> Finished:
    """Store a run that no worker could finish."""
    now = datetime.now(UTC)
    row = {
        "run_id": job.spec.run_id,
        "experiment": job.experiment,
        "arm": job.spec.arm.label,
        "spec": job.spec.canonical_json,
        "seed": job.spec.seed,
        "status": "failed",
        "reason": reason,
        "seconds_total": 0.0,
        "started": now,
        "finished": now,
        **fingerprint(job.spec.recipe, job.place.device, job.place.threads),
        **host_facts(),
    }
    return store(job, Rows(row, [], None))


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
