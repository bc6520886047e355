"""One run from its spec to its rows: training, evaluation, provenance, and what went wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness import rng
from harness.data.content import content
from harness.data.sources import load_source
from harness.data.splits import first
from harness.errors import DEBUG, UserError
from harness.experiment import RunSpec
from harness.identity import Identity
from harness.models.classifier import Classifier
from harness.training import checkpoint, files, stages
from harness.training.evaluate import Predictions, metrics
from harness.training.loop import Clock, CurvePoint, Diverged, train
from harness.training.place import Place
from harness.training.provenance import host_facts
from harness.training.session import Session, set_up
from harness.tricks import registry
from harness.tricks.contract import DataInfo, NotApplicable
from harness.tricks.needs import stages_of

CLEAN_TRAIN_LIMIT = 10_000
"""Images of the training split that are read for the clean training accuracy at the end."""


UNKNOWN = Identity(data="")
"""Of a run that nobody planned, until its images are read."""

OUT_OF_MEMORY = "out of memory"
"""How the reason of a run begins for which memory did not suffice."""


@dataclass
class Result:
    """The rows of one run: a `runs` row, curve points, and test predictions when it finished.

    `stage` is the content of its file for those that need it (`training.stages`), where that was asked for.
    """

    row: dict[str, Any]
    points: list[CurvePoint] = field(default_factory=list)
    predictions: Predictions | None = None
    stage: bytes | None = None


def execute(
    spec: RunSpec,
    experiment: str,
    place: Place,
    planned: Identity = UNKNOWN,
    on_epoch: Callable[[int, list[CurvePoint]], None] = lambda epoch, points: None,
    as_stage: bool = False,
) -> Result:
    """Train and evaluate one run. Never raises for what goes wrong inside it: that becomes the row's status.

    The runs that it needs lie in the place's `stages_dir` (see `train_stages`); with `as_stage`, what it leaves for
    runs that need it comes with its rows.

    The row's identity is that of the images and code that were used; the planned one is stored where the images cannot
    be read at all.

    `on_epoch` gets the number of epochs done and the curve points of the last one.

    A trick that cannot act is `skipped`; a loss that is not finite is `diverged`; everything else that
    raises is `failed`. The reason is stored either way.
    """
    started, wall = datetime.now(UTC), time.perf_counter()
    isolate(spec.seed, place.device)
    reset_peak_memory(place.device)
    result = Result(row={})
    clock, session, status, reason, identity = Clock(), None, "ok", "", planned
    measured: dict[str, Any] = {}
    saved: Path | None = None
    try:
        source = load_source(spec.data, place.data_root)
        identity = place.identity(spec, source.digest)
        saved = checkpoint.path_of(spec, place, source.digest)
        session = set_up(spec, place, source)
        if saved is not None:
            result.points = checkpoint.load(saved, session, clock) or []
        saved_at = time.monotonic()
        states = _global_rng_states() if place.check else None
        for points in train(
            session.run, session.stack, session.loader, session.step, session.lr_factors,
            session.validate, clock, place.check,
        ):  # fmt: skip
            result.points += points
            on_epoch(session.run.epoch, points)
            if saved is not None and time.monotonic() - saved_at >= place.checkpoint_seconds:
                with suppress(OSError, RuntimeError):  # a disk too full for a checkpoint may still take the rows
                    checkpoint.save(saved, session, result.points, clock)
                saved_at = time.monotonic()
        if states is not None and states != _global_rng_states():
            raise AssertionError("something drew from a global random generator")
        if content(spec.data, place.data_root).digest != source.digest:
            raise UserError(
                "the images changed while the run trained; leave the folder alone until the study ends, and start it "
                "again"
            )
        networks = session.evaluated()
        costs = {place.name(spec, source.digest): _cost(session, clock), **session.stages}
        left = stages.packed(networks, costs) if as_stage else None  # before they are rewritten for the test
        measured, result.predictions = _final(session, session.finalized(networks))
        result.stage = left
    except Exception as error:
        status, reason = outcome_of(error, spec)
    train_loss = [p.value for p in result.points if p.split == "train" and p.metric == "loss"]
    run, needed, setup = (session.run, session.stages, session.setup) if session else (None, {}, Clock())
    result.row = {
        "run_id": spec.run_id,
        "experiment": experiment,
        "arm": spec.arm.label,
        "hyperparameters": json.dumps({t.name: t.params for t in spec.arm.tricks}, sort_keys=True),
        "spec": spec.canonical_json,
        "seed": spec.seed,
        "status": status,
        "reason": reason,
        "train_loss": train_loss[-1] if train_loss else None,
        "epochs_done": run.epoch if run else 0,
        "steps": run.step if run else 0,
        "seconds_total": time.perf_counter() - wall,
        "seconds_train": clock.wall,
        "cpu_seconds_train": clock.cpu,
        "seconds_setup": setup.wall,
        "cpu_seconds_setup": setup.cpu,
        "seconds_other": sum(cost.seconds for cost in needed.values()),
        "cpu_seconds_other": sum(cost.cpu_seconds for cost in needed.values()),
        "stages": json.dumps(sorted(needed)),
        "seconds_per_step": clock.wall / clock.steps if clock.steps else None,
        "images_per_second": clock.steps * run.recipe.batch_size / clock.wall if run and clock.steps else None,
        "packed": place.packed,
        "plain_steps": session.plain_steps if session and place.cuda_graphs else None,
        "peak_memory_bytes": peak_memory(place.device),
        "parameters": sum(p.numel() for p in run.model.parameters()) if run else None,
        "started": started,
        "finished": datetime.now(UTC),
        "data_hash": identity.data,
        "identity": identity.short,
        "identity_json": identity.json,
        **place.fingerprint(spec),
        **host_facts(),
        **measured,
    }
    return result


def _cost(session: Session, clock: Clock) -> stages.Cost:
    """What a run took by itself, training and set-up together."""
    return stages.Cost(clock.wall + session.setup.wall, clock.cpu + session.setup.cpu)


def train_stages(spec: RunSpec, place: Place) -> None:
    """Train what a run needs and what that needs, where its file is not in the place's `stages_dir`.

    For a run by itself; the runs of studies need no such call.

    Raises:
        UserError: one of them has no result, or the place has no such folder.
        OSError: the folder cannot be written.
    """
    for stage in stages_of([spec]).values():
        path = stages.path_of(place.name(stage), place)
        if path is None:
            raise UserError(f"the arm {spec.arm.label} needs other runs, and the place has no stages_dir for them")
        if not path.is_file():
            result = execute(stage, "stage", place, as_stage=True)
            if result.stage is None:
                what = f"{result.row['status']}: {result.row['reason']}"
                raise UserError(f"the arm {spec.arm.label} needs run {stage.run_id} ({stage.arm.label}), which {what}")
            files.write(path, result.stage)


def outcome_of(error: Exception, spec: RunSpec) -> tuple[str, str]:
    """The status and the reason of a run that raised this."""
    if os.environ.get(DEBUG) and not isinstance(error, NotApplicable):
        traceback.print_exception(error)
    text = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, NotApplicable):
        return "skipped", str(error)
    if isinstance(error, Diverged):
        return "diverged", str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return "failed", f"{OUT_OF_MEMORY}: {text}".strip(": ")
    if isinstance(error, UserError):
        return "failed", str(error)
    return "failed", f"{type(error).__name__}: {text} ({_author(error, spec)})"


def _author(error: Exception, spec: RunSpec) -> str:
    """File and line that an error came from: the last of a trick in the arm, or else the last one of all."""
    modules = [sys.modules.get(registry.load(trick.name).__module__) for trick in spec.arm.tricks]
    files = {getattr(module, "__file__", None) for module in modules}
    frames = traceback.extract_tb(error.__traceback__)
    where = next((frame for frame in reversed(frames) if frame.filename in files), frames[-1])
    return f"{Path(where.filename).name}:{where.lineno}"


def _final(session: Session, networks: Sequence[Classifier]) -> tuple[dict[str, Any], Predictions]:
    """Read validation, clean training and, once, the test split, with the last weights."""
    val = session.predict(networks, session.splits.val)
    test = session.predict(networks, session.splits.test)
    clean = session.predict(networks, first(session.splits.train, CLEAN_TRAIN_LIMIT))
    out: dict[str, Any] = {f"val_{k}": v for k, v in metrics(val.logits, val.label).items()}
    out |= {f"test_{k}": v for k, v in metrics(test.logits, test.label).items()}
    fit = metrics(clean.logits, clean.label)
    out |= {"train_accuracy": fit["accuracy"], "train_nll": fit["nll"]}
    logits = test.logits.cpu().contiguous()
    out["test_digest"] = hashlib.sha256(logits.numpy().tobytes()).hexdigest()[:16]
    out["forward_flops"] = forward_flops(networks[-1], session.run.data)
    if not bool(torch.isfinite(logits).all()):
        raise Diverged("the trained network predicts values that are not finite")
    return out, test


def forward_flops(model: nn.Module, data: DataInfo) -> int:
    """FLOPs of one image's forward pass, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    mode = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, data.channels, data.size, data.size, device=next(model.parameters()).device))
    model.train(mode)
    return int(counter.get_total_flops())


def isolate(seed: int, device: str) -> None:
    """Reset what a previous run in this process may have left: global generators and flags, and the current GPU.

    The harness never draws from global generators; libraries that do still see the same state in every run.
    """
    if torch.device(device).index is not None and device.startswith("cuda"):
        torch.cuda.set_device(device)  # whose memory is read, and whose streams are taken, without saying so again
    torch.manual_seed(rng.derive(seed, "global"))
    np.random.seed(rng.derive(seed, "global") % 2**32)  # noqa: NPY002 (that of libraries, not ours)
    random.seed(rng.derive(seed, "global"))
    torch.set_grad_enabled(True)


def _global_rng_states() -> tuple[Any, ...]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 (that of libraries, not ours)
    return (torch.get_rng_state().numpy().tobytes(), random.getstate(), numpy_state[1].tobytes())


def reset_peak_memory(device: str) -> None:
    """Start a new peak: of the CUDA allocator, or of this process's resident memory where Linux allows it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: str) -> int:
    """Bytes at the peak since `reset_peak_memory`: allocated on the CUDA device, or resident in this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return _resident_peak()


def _resident_peak() -> int:
    """Bytes of this process at its peak, of all runs in it; 0 where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes, but on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
