"""The same runs as tasks on a Ray cluster, whose nodes need not share a file system.

Each run is one Ray task; its rows come back through Ray and the driver writes them, so only the driver needs
the results folder. What a run needs of others goes to its node in the same way. Every node needs this package in the
driver's version and, for data sets that are not bundled, the data root at the same path. Rows are compared within one
fingerprint, which names the device, so a cluster of equal nodes is what makes a study.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.commands.place import CommandPlace
from harness.commands.surroundings import cards
from harness.cpus import available
from harness.errors import UserError
from harness.study.places import AnyPlace
from harness.study.workers.commands import run_command
from harness.study.workers.job import Finished, Job, Rows
from harness.study.workers.local import start_worker, train, worker_environment
from harness.study.workers.pool import TRIES
from harness.study.workers.storing import lost, store
from harness.study.workers.turns import POLL, Turns
from harness.version import __version__

LOCAL = "local"
REACH_SECONDS = 10.0
"""How long a cluster's address may take to accept a connection."""
CHECK_SECONDS = 30.0
"""When no run ends for this long, see whether any node is left that could do one."""

AHEAD = 64
"""Fewest runs that are handed to Ray at once."""

PluginTexts = tuple[tuple[str, bytes], ...]
"""File name and content of each plug-in, because a node may not have the file."""


def run_jobs_on_ray(
    jobs: Sequence[Job], address: str, plugins: Sequence[Path] = (), gpus_per_run: float = 0
) -> Iterator[Finished]:
    """Do all jobs on Ray, yielding each as it ends. Rows are on disk before a job is yielded.

    A run whose worker or node is lost is tried once more, then stored as failed. Closing the iterator early
    (Ctrl-C) stops outstanding runs; finished runs stay. A Ray that was connected before the call is used and
    left as it is; otherwise the connection, or the Ray that was started, ends with the iterator.

    Args:
        jobs: runs of one place, all with the same number of threads, which is the CPUs that each run takes.
        address: "ray://host:port", or "local": the cluster that the variable RAY_ADDRESS names, which Ray sets
            for its own jobs, else a new Ray on this machine.
        plugins: files with tricks, sent to the workers.
        gpus_per_run: GPUs that each run takes; 0.5 packs two runs on a GPU.

    Raises:
        UserError: Ray is not installed, cannot be reached or is gone, no node can take a run, a node has
            another version of this package or cannot import a plug-in, or a CUDA run was given no GPU.
        OSError: a row cannot be written, for example because the disk is full.
    """
    if not jobs:
        return
    place = jobs[0].place
    if place.device.startswith("cuda") and not gpus_per_run:
        raise UserError("runs on cuda and Ray take no GPU (gpus_per_run is 0); give each a share above 0")
    ray = _import_ray()
    texts = tuple((path.name, path.read_bytes()) for path in plugins)
    connected_before = ray.is_initialized()
    pending: dict[Any, tuple[Job, int]] = {}
    try:
        if not connected_before:
            connect(ray, address)
        _check_nodes(ray, place.threads, gpus_per_run)
        # Ray itself would retry for ever when a node runs out of memory, so retrying is done here.
        task = ray.remote(
            num_cpus=place.threads,
            num_gpus=gpus_per_run,
            max_retries=0,
            runtime_env={"env_vars": worker_environment(place.threads)},
        )(work)

        needed: dict[Path, Any] = {}

        def sent(path: Path) -> tuple[str, list[Any]]:
            """A file of a run that others need; in a list, so that a node fetches it when it looks there."""
            if path not in needed:
                needed[path] = ray.put(path.read_bytes())
            return path.name, [needed[path]]

        def submit(job: Job, tries: int) -> None:
            files = [sent(path) for path in job.needs.values() if path.is_file()]
            pending[task.remote(_sent(job), texts, __version__, files)] = (job, tries)

        with Turns(jobs) as turns:
            while pending or turns:
                while len(pending) < _ahead(ray, place.threads) and (turn := turns.next()) is not None:
                    job, found = turn
                    if found is None:
                        submit(job, 1)
                    else:
                        yield found
                if not pending:
                    time.sleep(POLL)
                    continue
                done, _ = ray.wait(list(pending), timeout=POLL if turns else CHECK_SECONDS)
                if not done:
                    _check_nodes(ray, place.threads, gpus_per_run)
                for ref in done:
                    job, tries = pending.pop(ref)
                    try:
                        finished = store(job, ray.get(ref))
                    except ray.exceptions.RayTaskError as error:
                        if isinstance(error.cause, UserError):
                            raise error.cause from None
                        finished = lost(job, f"{type(error.cause).__name__}: {error.cause}")
                    except ray.exceptions.RayError as error:
                        if tries < TRIES:
                            submit(job, tries + 1)
                            continue
                        finished = lost(job, f"the worker process died {TRIES} times: {_one_line(error)}")
                    turns.end(job, finished)
                    yield finished
    except ConnectionError as error:
        raise UserError(
            f"the connection to Ray at {address} is lost ({_one_line(error)}); finished runs are stored, and the same "
            "command goes on from here"
        ) from None
    finally:
        if ray.is_initialized():
            for ref in pending:
                ray.cancel(ref, force=True)
        if not connected_before:
            ray.shutdown()  # also after a lost connection, whose remains would be in the way of the next one


def _ahead(ray: Any, threads: int) -> int:
    """How many runs are handed to Ray at once: enough for all CPUs, and for a cluster that grows when it sees demand.

    All runs of a large study would be too many, since looking at each takes its time.
    """
    return max(AHEAD, 2 * int(ray.cluster_resources().get("CPU", 1) // threads))


def work(job: Job, plugins: PluginTexts, version: str, files: Sequence[tuple[str, list[Any]]] = ()) -> Rows:
    """Train one run; executed in a Ray worker.

    Args:
        job: the run.
        plugins: files with tricks.
        version: of the driver.
        files: name and Ray's reference to the content of each file that runs which it needs have left.

    Raises:
        UserError: the driver has another version of this package, or a plug-in cannot be imported here.
    """
    if version != __version__:
        raise UserError(
            f"Ray node {socket.gethostname()} has harness {__version__} and this machine {version}; install one "
            "version everywhere"
        )
    place = job.place
    if isinstance(place, CommandPlace):
        if not job.study_dir.is_dir():
            raise UserError(
                f"Ray node {socket.gethostname()} has no {job.study_dir}: commands leave their files there, so the "
                "results folder must be one that all nodes share (--results)"
            )
        return run_command(job, cards())  # Ray has made those of its task the visible ones
    _start_once(job.place.threads, plugins)
    if job.study_dir.is_dir():
        return train(job)
    with tempfile.TemporaryDirectory() as folder:  # no shared file system, so no checkpoints
        for name, (content,) in files:
            Path(folder, name).write_bytes(_import_ray().get(content))
        return train(replace(job, place=replace(place, stages_dir=Path(folder), checkpoint_dir=None)))


@lru_cache
def _start_once(threads: int, plugins: PluginTexts) -> None:
    """Set up this worker process before its first run."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, (name, text) in enumerate(plugins):
            path = Path(folder, str(number), name)  # reasons of failed runs show the file's name
            path.parent.mkdir()
            path.write_bytes(text)
            paths.append(str(path))
        start_worker(threads, paths)


def _sent(job: Job) -> Job:
    """The job with paths that hold in another working directory."""
    place: AnyPlace = job.place
    if isinstance(place, CommandPlace):
        place = replace(place, home=place.home and place.home.absolute())
        return replace(job, study_dir=job.study_dir.absolute(), place=place)
    place = replace(
        place,
        stages_dir=place.stages_dir and place.stages_dir.absolute(),
        checkpoint_dir=place.checkpoint_dir and place.checkpoint_dir.absolute(),
    )
    return replace(job, study_dir=job.study_dir.absolute(), place=place)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--workers ray needs Ray ({error}); run `pip install 'harness[ray]'`") from None
    return ray


def connect(ray: Any, address: str) -> None:
    """Start a Ray here, or connect to a cluster.

    Raises:
        UserError: the address is malformed or nothing usable answers there.
    """
    if address == LOCAL:
        address = os.environ.get("RAY_ADDRESS") or LOCAL
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options |= {"include_dashboard": False, "num_cpus": available().count}
    else:
        _check_reachable(address)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(**options)
        except ConnectionAbortedError:  # now and then the process that the server forks for a client does not start
            ray.init(**options)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and its own
        raise UserError(f"Ray address {address}: no connection: {type(error).__name__}: {_one_line(error)}") from None
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray puts a handler of its own in place
            signal.signal(signal.SIGTERM, terminate or signal.SIG_DFL)


def _check_reachable(address: str) -> None:
    """Refuse at once an address at which nothing listens; Ray itself tries for minutes."""
    rule = "write ray://HOST:PORT, the Ray client port of the head node (10001 unless it was chosen)"
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        known, host, port = parts.scheme in ("", "ray"), parts.hostname, parts.port
    except ValueError:
        known = False
    if not (known and host and port):
        raise UserError(f"Ray address {address}: not an address of a cluster; {rule}")
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise UserError(f"Ray address {address}: cannot be reached ({error}); {rule}") from None


def _check_nodes(ray: Any, cpus: int, gpus: float) -> None:
    """Refuse runs for which Ray would wait for ever.

    Raises:
        UserError: no node that is alive has the CPUs and GPUs of one run.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        have = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes) or "none"
        raise UserError(
            f"a run takes {cpus} CPUs (--threads) and {gpus:g} GPUs, and no node of the Ray cluster has them "
            f"(nodes: {have}); add a node or ask for less; finished runs are stored"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
