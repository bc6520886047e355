"""One run that is a command: from its spec to its rows, whatever goes wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.commands.experiment import CommandExperiment, CommandSpec
from harness.commands.place import CommandPlace
from harness.commands.process import Ended, Running, tail
from harness.commands.results import Found, Unfinished, results_of
from harness.commands.words import fill, names_in
from harness.errors import UserError
from harness.identity import Identity
from harness.metrics import COLUMNS
from harness.readers.names import split_of
from harness.store.schema import MetricSpec

OUT_OF_MEMORY = "out of memory"
LOGS, OUT, DIFFS = "logs", "out", "code"


@dataclass(frozen=True)
class Started:
    """A run that is about to start: its words and variables with all placeholders filled, its folder and its log."""

    argv: list[str]
    env: dict[str, str]
    out: Path
    log: Path


def execute(
    spec: CommandSpec,
    experiment: str,
    place: CommandPlace,
    planned: Identity,
    name: str,
    cards: Sequence[str],
    begun: Callable[[Running], None],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run a command and read what it left. What goes wrong inside it becomes the row's status.

    Args:
        spec: the run.
        experiment: name of the experiment.
        place: whose `home` holds the run's folder and log.
        planned: the identity that the run was planned with.
        name: of the run's folder and log.
        cards: the GPUs that it owns.
        begun: gets the process, so that it can be stopped.

    Returns:
        The columns of a row, and the points of its curve.

    Raises:
        UserError: the code has changed since the study was planned.
        OSError: the folder cannot be written.
    """
    declared, code = place.experiment, place.code()
    if place.identity(spec, planned.data, code) != planned:
        raise UserError(
            f"the code in {declared.cwd} changed while the study ran: runs before are of the old code. The same "
            "command plans anew; leave the code alone until the study ends"
        )
    started, wall = datetime.now(UTC), time.perf_counter()
    ready = prepared(spec, place, name, cards)
    process = Running(ready.argv, declared.cwd, ready.env, ready.log, declared.command.seconds)
    begun(process)
    ended = process.wait()
    seconds = time.perf_counter() - wall
    status, reason, found = outcome(declared, ended, ready)
    if status == "ok":
        tidy(ready.out, declared.command.keep)
    row = {
        "run_id": spec.run_id,
        "experiment": experiment,
        "arm": spec.arm.label,
        "hyperparameters": json.dumps({t.name: t.params for t in spec.arm.tricks}, sort_keys=True),
        "spec": spec.canonical_json,
        "seed": spec.seed,
        "status": status,
        "reason": reason,
        "test_digest": found.digest if found and status == "ok" else None,
        "epochs_done": len(found.curve) if found else 0,
        "seconds_total": seconds,
        "seconds_train": found.seconds if found and found.seconds is not None else seconds,
        "cpu_seconds_train": ended.cpu or None,
        "packed": place.packed,
        "peak_memory_bytes": ended.peak or None,
        "started": started,
        "finished": datetime.now(UTC),
        "data_hash": planned.data,
        "identity": planned.short,
        "identity_json": planned.json,
        "host": socket.gethostname(),
        "versions": json.dumps(place.versions, sort_keys=True),
        "git_commit": code.commit,
        "git_dirty": code.dirty,
        **place.fingerprint(),
        **(scored(declared.declared, found.scores) if found and status == "ok" else {}),
    }
    return row, points_of(declared, found.curve if found else [])


def prepared(spec: CommandSpec, place: CommandPlace, name: str, cards: Sequence[str]) -> Started:
    """A run that can start: its folder is there, empty or with what it goes on from."""
    assert place.home is not None
    experiment = place.experiment
    c, home = experiment.command, place.home.absolute()
    out, log = home / OUT / name, home / LOGS / f"{name}.txt"
    values: dict[str, Any] = {
        "python": place.python, "seed": spec.number, "out": out, "gpu": ",".join(cards), "gpus": c.gpus,
        "data": experiment.path(c.data) if c.data is not None else "", "arm": spec.arm.label, "run_id": spec.run_id,
    }  # fmt: skip
    values["checkpoint"] = _newest(out, c.checkpoint)
    words, variables = experiment.template(spec.arm)
    if any("port" in names_in(t, "command") for t in (*words, *c.resume, *variables.values())):
        values["port"] = _free_port()
    resumed = _resumed(experiment, out, values)
    if out.exists() and not resumed:
        _move_away(out)
    out.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    where = f"{experiment.file}: command"
    argv = [fill(text, values, where) for text in words] + resumed
    env = dict(os.environ)
    if c.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
    else:
        env |= {"OMP_NUM_THREADS": str(place.threads), "MKL_NUM_THREADS": str(place.threads)}
    env |= {
        "HARNESS_SEED": str(spec.number), "HARNESS_OUT": str(out), "HARNESS_ARM": spec.arm.label,
        "HARNESS_RUN_ID": spec.run_id, "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    env |= {key: fill(text, values, where) for key, text in variables.items()}
    return Started(argv, env, out, log)


def _resumed(experiment: CommandExperiment, out: Path, values: Mapping[str, Any]) -> list[str]:
    """The words that make a run go on where an earlier attempt ended; none where that left nothing to go on from."""
    c = experiment.command
    if not c.resume or (c.checkpoint is not None and not values["checkpoint"]):
        return []
    words = [fill(text, values, f"{experiment.file}: command.resume") for text in c.resume]
    files = [Path(w) for t, w in zip(c.resume, words, strict=True) if "out" in names_in(t, "command")]
    return words if out.exists() and all(file.exists() for file in files) else []


def _newest(out: Path, pattern: str | None) -> str:
    """The newest of the files in a run's folder that match; empty where none does."""
    found = list(out.glob(pattern)) if pattern is not None and out.is_dir() else []
    return str(max(found, key=lambda path: path.stat().st_mtime_ns)) if found else ""


def _move_away(out: Path) -> None:
    """Give the folder of an earlier attempt another name, in place of that of one before it."""
    old = out.with_name(f"{out.name}.before")
    shutil.rmtree(old, ignore_errors=True)
    out.rename(old)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def outcome(experiment: CommandExperiment, ended: Ended, ready: Started) -> tuple[str, str, Found | None]:
    """Status and reason of a run that ended, and what it left."""
    last = next(iter(tail(ready.log, 1)), "it printed nothing")
    if ended.error:
        return "failed", f"it cannot start: {ended.error}", None
    if ended.timed_out:
        return "failed", f"ended after timeout = {experiment.command.timeout}: {last}", None
    if ended.code:
        how = f"exit code {ended.code}" if ended.code > 0 else f"killed by signal {-ended.code}"
        said = " ".join(tail(ready.log)).lower()
        memory = f"{OUT_OF_MEMORY}, " if "out of memory" in said or "outofmemory" in said else ""
        return "failed", f"{memory}{how}: {last}", None
    try:
        found = results_of(experiment, ready.out, ready.log)
    except Unfinished as error:
        return "failed", str(error), None
    wrong = [f"{name} is {value}" for name, value in found.scores.items() if not math.isfinite(value)]
    return ("diverged", ", ".join(wrong), found) if wrong else ("ok", "", found)


def scored(declared: Mapping[str, MetricSpec], scores: Mapping[str, float]) -> dict[str, Any]:
    """The columns that hold scores: those of the runs table where it has one of that name, else `scores`.

    Accuracies in columns are fractions; scores are as the program gives them.
    """
    columns = {
        name: value / (100.0 if declared[name].unit == "percent" else 1.0)
        for name, value in scores.items()
        if name in COLUMNS
    }
    others = {name: value for name, value in scores.items() if name not in COLUMNS}
    return columns | {"scores": json.dumps(others) if others else None}


def points_of(experiment: CommandExperiment, curve: Iterable[Mapping[str, float]]) -> list[dict[str, Any]]:
    """The rows of a curve as points: one for each number of each row."""
    step = experiment.curve.step if experiment.curve else ""
    return [
        {"epoch": int(row[step]), "step": int(row[step]), "split": _split(name), "metric": name, "value": value}
        for row in curve
        for name, value in row.items()
        if name != step
    ]


def _split(name: str) -> str:
    return "train" if split_of(name) in ("train", "unknown") else "val"


def tidy(out: Path, keep: Sequence[str]) -> None:
    """Remove what is not kept of a run's folder; nothing where no pattern says what is."""
    if not keep:
        return
    kept = {path for pattern in keep for path in out.glob(pattern)}
    for path in sorted(out.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept and not any(parent in kept for parent in path.parents):
            path.unlink()
