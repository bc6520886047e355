"""Before a study trains: a step of every arm in a process that may die.

One training step and one evaluation batch show what would crash, raise or not fit in memory in every run of an arm. An
arm that does is said once, and its runs are stored as failed without training; when the baseline does, nothing starts.
What went well is remembered in a file for each arm, so that the same command does not look again.

The process is a copy of this one (fork) where that is safe, on Linux with one thread on the CPU, whatever this process
has computed: it starts in milliseconds. Elsewhere, and for CUDA, it is a new one.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.commands.kinds import of_loop
from harness.commands.place import CommandPlace
from harness.cpus import available
from harness.errors import DEBUG, UserError
from harness.experiment import BASELINE, Arm, RunSpec
from harness.identity import key_of
from harness.store.writer import atomically
from harness.study.workers.processes import main_hidden
from harness.training.seen import MEMORY, Seen

if TYPE_CHECKING:
    from harness.study.places import AnyPlace
    from harness.study.plan import Plan
    from harness.training.place import Place

SHARE = 0.05
"""Most of the time that the runs are expected to take, in which their arms are looked at."""

FEW = 5
FLOOR_SECONDS = 30.0
"""So many arms beside the baseline are looked at in any case, each for so long: a share of a short study is nothing."""

BASELINE_STEPS = 3
"""Steps of the baseline: the first ones also allocate and choose kernels, so the last one is timed."""

FOLDER = "preflight"

FROM_OUTSIDE = (-9, -15)  # SIGKILL and SIGTERM, which Windows has no names for
"""Ends of a process that may have had nothing to do with the arm, which is then tried once more."""

ADVICE = "leave the arm out, or try another recipe.batch_size, recipe.channels_last=false or another version of torch"


@dataclass(frozen=True)
class Rehearsal:
    """What is known of the arms of a study before it trains.

    place: where they can be trained, which may be in another memory layout than asked for; `note` then says why.
    failed: why a run cannot be trained, by the ids of the runs that were looked at.
    unseen: how many arms there was no time for.
    """

    place: AnyPlace
    note: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    unseen: int = 0


@dataclass(frozen=True)
class Ready:
    """A study that can be trained: its plan and place, `refused` runs with their reasons by id, and what to say."""

    plan: Plan
    place: AnyPlace
    refused: Mapping[str, str]
    lines: tuple[str, ...]


def preflight(
    plan: Plan, place: AnyPlace, results: Path, workers: int | str | None, plugins: Sequence[Path] = ()
) -> Ready:
    """Look at every arm of which runs are missing, and plan again where they need another memory layout.

    It happens on this machine, also when the runs go to a Ray cluster: for the device cpu that says what its nodes
    will do as far as their processors, memory and libraries are those of this machine; for CUDA it takes the GPU of
    this machine, which `--device cuda` asks for in any case.

    Args:
        plan: of the study.
        place: where its runs are trained.
        results: the folder of all studies.
        workers: as `run_study` takes them; for the forecast.
        plugins: files with tricks.

    Raises:
        UserError: the baseline cannot be trained.
    """
    from harness.study.plan import moved
    from harness.training.place import Place

    if isinstance(place, CommandPlace):  # the first run of the baseline shows what all would fail of
        return Ready(plan, place, {}, ())
    note, rehearsal = "", Rehearsal(place)
    while plan.missing:
        runs = sum(map(plan.cost, plan.missing)) / _slots(workers)
        assert isinstance(rehearsal.place, Place)
        rehearsal = look(_arms(plan), rehearsal.place, results / plan.manifest.study, plan.manifest.data, runs, plugins)
        if not rehearsal.note or note:
            break
        note = rehearsal.note
        plan = moved(plan, rehearsal.place, results, note)
    refused, said = _refused(plan, rehearsal.failed) if rehearsal.failed else ({}, ())
    return Ready(plan, rehearsal.place, refused, (*said, *unseen_line(rehearsal)))


def _refused(plan: Plan, failed: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The runs that cannot be trained, with the reason: theirs, or that of a run that they need; and what is said."""
    refused: dict[str, str] = {}
    said: dict[str, None] = {}
    arms = plan.manifest.arm_of
    for spec in plan.missing:
        called = plan.label(spec) or arms[spec.run_id].label
        of_stage = (refused[i] for i in plan.stages.direct.get(spec.run_id, ()) if i in refused)
        reason = failed.get(_with_seed(of_loop(spec), plan.manifest.seeds[0]).run_id) or next(of_stage, "")
        if reason:
            refused[spec.run_id] = reason
            said[f"{called}: {reason}; its runs are stored as failed"] = None
    return refused, tuple(said)


def _with_seed(spec: RunSpec, seed: int) -> RunSpec:
    return spec.model_copy(update={"seed": seed})


def unseen_line(rehearsal: Rehearsal) -> tuple[str, ...]:
    """That arms were not looked at, when there are any."""
    if not rehearsal.unseen:
        return ()
    return (
        f"pre-flight: {rehearsal.unseen} arms were not looked at, which would have taken more than {SHARE:.0%} of the "
        "time of all runs",
    )


def _slots(workers: int | str | None) -> int:
    return 1 if workers is None else workers if isinstance(workers, int) else available().count


def _arms(plan: Plan) -> list[RunSpec]:
    """One run of the baseline, and one of every other arm and stage of which runs are missing; all with one seed."""
    seed = plan.manifest.seeds[0]
    first = of_loop(plan.specs[0]).model_copy(update={"arm": Arm(), "seed": seed})
    return list({spec.run_id: spec for spec in (first, *(_with_seed(of_loop(s), seed) for s in plan.missing))}.values())


def look(
    arms: Sequence[RunSpec], place: Place, folder: Path, images: str, runs: float, plugins: Sequence[Path] = ()
) -> Rehearsal:
    """Rehearse the arms, the baseline first, until they are done or the time is up.

    Args:
        arms: one run of each.
        place: where they are trained.
        folder: of the study, where what went well is remembered.
        images: content digest of the data set.
        runs: how many times the training of a baseline all runs take, one after another.
        plugins: files with tricks.

    Raises:
        UserError: the first arm cannot be trained.
    """
    from harness.training.place import Place

    kept = _Kept(folder / FOLDER, images)
    with Throwaway(place, plugins) as process:
        rehearsal = _look(arms, place, kept, runs, process)
        if rehearsal.note:
            assert isinstance(rehearsal.place, Place)
            again = _look(arms, rehearsal.place, kept, runs, process)
            rehearsal = replace(again, note=rehearsal.note)
    return rehearsal


def _look(arms: Sequence[RunSpec], place: Place, kept: _Kept, runs: float, process: Throwaway) -> Rehearsal:
    started, budget = time.monotonic(), 0.0
    failed: dict[str, str] = {}
    for done, spec in enumerate(arms):
        spent = time.monotonic() - started
        left = None if not done else max(budget - spent, FLOOR_SECONDS if done <= FEW else 0.0)
        seen = kept.get(spec, place)
        if seen is None and left is not None and left <= 0:
            return Rehearsal(place, failed=failed, unseen=len(arms) - done)
        if seen is None:
            seen = process.rehearse(spec, place, 1 if done else BASELINE_STEPS, left)
            if seen is None:  # it took too long
                return Rehearsal(place, failed=failed, unseen=len(arms) - done)
            if not seen.problem:
                kept.put(spec, place, seen)
        if seen.at_risk:
            return Rehearsal(replace(place, contiguous=True), _layout_note(spec, seen.at_risk))
        if seen.problem and not done:
            raise UserError(seen.problem if seen.own else f"the {BASELINE} cannot be trained: {seen.problem}")
        if seen.problem:
            failed[spec.run_id] = f"pre-flight: {seen.problem}"
        if not done:
            budget = SHARE * runs * seen.run_seconds
    return Rehearsal(place, failed=failed)


def _layout_note(spec: RunSpec, layer: str) -> str:
    return (
        f"All runs use the contiguous memory layout in place of channels_last: in that, this torch corrupts memory on "
        f"this processor in the backward pass of strided 1x1 convolutions with few channels, as {layer} of "
        f"{spec.arm.label} is one."
    )


@dataclass(frozen=True)
class _Kept:
    """What went well before, in a file for each run by its key and fingerprint."""

    folder: Path
    images: str

    def get(self, spec: RunSpec, place: Place) -> Seen | None:
        try:
            return Seen(**json.loads(self._path(spec, place).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def put(self, spec: RunSpec, place: Place, seen: Seen) -> None:
        path = self._path(spec, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomically(path, lambda file: file.write(json.dumps(asdict(seen)).encode()))

    def _path(self, spec: RunSpec, place: Place) -> Path:
        key = key_of(spec.run_id, place.identity(spec, self.images).short)
        return self.folder / f"{key}-{place.fingerprint(spec)['fingerprint']}.json"


class Throwaway:
    """A process that rehearses arms, started when it is first needed and again when an arm has ended it."""

    def __init__(self, place: Place, plugins: Sequence[Path]) -> None:
        self._fork = sys.platform == "linux" and place.threads == 1 and place.device == "cpu"
        self._begin = (place.threads, [str(path) for path in plugins], self._fork)
        self._process: Any = None
        self._pipe: Connection

    def __enter__(self) -> Throwaway:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def rehearse(self, spec: RunSpec, place: Place, steps: int, seconds: float | None, tries: int = 2) -> Seen | None:
        """What the rehearsal of a run shows, its death included; None when it took longer than `seconds`."""
        if self._process is None:
            self._start(spec, place)
        deadline = None if seconds is None else time.monotonic() + seconds
        at = "its start"
        try:
            self._pipe.send((spec, place, steps))
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not wait([self._pipe], left):
                    self._end()
                    return None
                what = self._pipe.recv()
                if isinstance(what, Seen):
                    return what
                at = what
        except (EOFError, OSError):
            code = self._end(kill=False)
            if code in FROM_OUTSIDE and tries > 1:
                return self.rehearse(spec, place, steps, seconds, tries - 1)
            return Seen(f"{ended(code)} in {at}; {MEMORY if code == FROM_OUTSIDE[0] else ADVICE}")

    def _start(self, spec: RunSpec, place: Place) -> None:
        from harness.data.sources import load_source

        if self._fork:
            load_source(spec.data, place.data_root)  # once for all copies
        context: Any = multiprocessing.get_context("fork" if self._fork else "spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._pipe, *self._begin), daemon=True)
        # A copy of a thread that has computed nothing waits for no helper of OpenMP that was not copied.
        starter = threading.Thread(target=self._process.start)
        with main_hidden():
            starter.start()
            starter.join()
        theirs.close()

    def _end(self, kill: bool = True) -> int | None:
        """End the process; returns its exit code."""
        if self._process is None:
            return None
        self._pipe.close()
        if kill:
            self._process.kill()
        self._process.join()
        code: int | None = self._process.exitcode
        self._process = None
        return code


def serve(pipe: Connection, other: Connection, threads: int, plugins: Sequence[str], copied: bool) -> None:
    """What the process does: rehearse what it is sent, until the pipe is closed or its parent is gone.

    It is silent, but for tracebacks that were asked for: what libraries and tricks print, they print again in the runs.
    """
    other.close()
    for number in ("SIGINT", "SIGHUP"):
        if hasattr(signal, number):
            signal.signal(getattr(signal, number), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1,) if os.environ.get(DEBUG) else (1, 2):
        os.dup2(silence, stream)

    from harness.study.workers.local import start_worker, worker_environment

    if copied:
        import torch

        torch.set_num_threads(threads)
    else:
        os.environ.update(worker_environment(threads))
        start_worker(threads, plugins)
    from harness.training.rehearse import rehearse

    while True:
        try:
            spec, place, steps = pipe.recv()
            for what in rehearse(spec, place, steps):
                pipe.send(what)
        except (EOFError, OSError):
            os._exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


def ended(code: int | None) -> str:
    """How a process ended, in words; `code` is negative for a signal, as `multiprocessing` gives it."""
    if code is None or code >= 0:
        return f"the process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}"
