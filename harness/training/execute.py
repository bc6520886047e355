"""One run from its spec to its rows: set-up in the order the hooks imply, training, evaluation, provenance."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness import rng
from harness.data.batches import Loader
from harness.data.sources import load_source
from harness.data.splits import Held, Splits, split
from harness.errors import UserError
from harness.experiment import Recipe, RunSpec
from harness.models.build import build
from harness.models.classifier import Classifier
from harness.training.evaluate import Predictions, metrics, predict_all
from harness.training.loop import Clock, Diverged, Point, total_loss, train
from harness.training.precision import DTYPES, Amp
from harness.training.provenance import fingerprint, host_facts
from harness.tricks import functional, registry
from harness.tricks.contract import Groups, NoEffect, NotApplicable, Precision, Run, Schedule
from harness.tricks.stack import Stack

CLEAN_TRAIN_LIMIT = 10_000
"""Images of the training split that are read for the clean training accuracy at the end."""


@dataclass(frozen=True)
class Place:
    """Where and how runs execute on this machine; nothing here may change a result."""

    data_root: Path
    device: str = "cpu"
    threads: int = 1
    packed: bool = False
    check: bool = False
    eval_batch: int = 1000
    weights_dir: Path | None = None
    """Shared folder for the weights of runs that other runs ask for (teachers)."""


@dataclass
class Result:
    """The rows of one run: a `runs` row, curve points, and test predictions when it finished."""

    row: dict[str, Any]
    points: list[Point] = field(default_factory=list)
    predictions: Predictions | None = None


@dataclass
class Session:
    """A run that is set up and ready to train."""

    run: Run
    stack: Stack
    splits: Splits
    loader: Loader
    amp: Amp
    lr_factors: list[float]
    seconds_other: float = 0.0

    def evaluated_model(self) -> Classifier:
        """The network whose predictions count now: the owner of the slot's, or the live one."""
        model: Classifier = self.stack.slot("evaluation_weights", lambda run: run.model)(self.run)
        return model

    def predict(self, model: Classifier, held: Held, place: Place) -> Predictions:
        """Predictions of `model` through the arm's predictors, in evaluation mode."""
        mode = model.training
        model.eval()
        with self.amp.autocast():
            predict = self.stack.fold("predictor", model, self.run)
            recipe = self.run.recipe
            out = predict_all(predict, held, self.run.device, place.eval_batch, recipe.channels_last)
        model.train(mode)
        return out

    def validate(self, place: Place) -> dict[str, float]:
        """Metrics of the validation split."""
        out = self.predict(self.evaluated_model(), self.splits.val, place)
        return metrics(out.logits, out.label)


def set_up(spec: RunSpec, place: Place) -> Session:
    """Build everything of a run: data, weights, surgery, optimizer, schedule.

    Raises:
        NotApplicable: a trick cannot act here.
        UserError: data or model cannot be had, or tricks conflict.
    """
    device = torch.device(place.device)
    stack = Stack(registry.make(t.name, t.params) for t in spec.arm.tricks)
    seed_of = stack.slot("stream_seed", lambda seed, purpose: seed)
    splits = split(load_source(spec.data, place.data_root), spec.data, spec.seed)
    recipe: Recipe = stack.fold("recipe", spec.recipe, splits.info)
    other_seconds = [0.0]

    def train_other(other: RunSpec) -> Classifier:
        started = time.perf_counter()
        try:
            return fetch_or_train(other, place)
        finally:
            other_seconds[0] += time.perf_counter() - started

    run = Run(spec=spec, recipe=recipe, data=splits.info, device=device, train_other=train_other, seed_of=seed_of)
    run.model = build(spec.model, splits.info, seed_of(spec.seed, rng.INIT))
    run.train = stack.fold("dataset", splits.train, run)
    loader = Loader(
        run.train,
        recipe.augment,
        recipe.batch_size,
        device,
        len(splits.info.classes),
        order=rng.torch_stream(seed_of(spec.seed, rng.ORDER), rng.ORDER),
        augment_rng=rng.torch_stream(seed_of(spec.seed, rng.AUGMENT), rng.AUGMENT, device),
        channels_last=recipe.channels_last,
        transforms=_transforms(stack, run),
    )
    run.steps_per_epoch = loader.steps_per_epoch
    run.model.to(device)
    run.model = stack.fold("model", run.model, run)
    for hook in stack.hooks("init"):
        before = [p.detach().clone() for p in run.model.parameters()]
        hook(run.model, run)
        if all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True)):
            raise NoEffect(f"{hook.__self__.name} left every weight as it was")  # type: ignore[attr-defined]
    run.model.to(device)
    if recipe.channels_last:
        run.model.to(memory_format=torch.channels_last)

    groups = stack.fold("param_groups", [{"params": [p for p in run.model.parameters() if p.requires_grad]}], run)
    run.optimizer = stack.slot("optimizer", baseline_optimizer)(groups, run)
    for group in run.optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    run.optimizer = stack.fold("wrap_optimizer", run.optimizer, run)
    schedule: Schedule = stack.fold("wrap_schedule", stack.slot("schedule", baseline_schedule)(run), run)
    lr_factors = [schedule(step / run.total_steps) for step in range(run.total_steps)]

    precision = stack.slot("precision", lambda run: Precision(DTYPES[run.recipe.precision]))(run)
    amp = Amp(precision, device)
    run.autocast, run.backward = amp.autocast, amp.backward
    run.unscale = lambda: amp.unscale(run.optimizer)
    run.loss = total_loss(run, stack, amp)
    stack.notify("prepare", run)
    return Session(run, stack, splits, loader, amp, lr_factors, other_seconds[0])


def _transforms(stack: Stack, run: Run) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if not stack.hooks("sample_transform"):
        return None
    return lambda image: stack.fold("sample_transform", image, run)


def baseline_optimizer(groups: Groups, run: Run) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW, as the recipe says; fused kernels, the same arithmetic in one call."""
    r = run.recipe
    if r.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=r.lr, weight_decay=r.weight_decay, fused=True)
    return torch.optim.SGD(
        groups, lr=r.lr, momentum=r.momentum, nesterov=r.nesterov, weight_decay=r.weight_decay, fused=True
    )


def baseline_schedule(run: Run) -> Schedule:
    """The recipe's schedule."""
    r = run.recipe
    if r.schedule == "step":
        return functional.step(r.milestones, r.gamma)
    return functional.cosine() if r.schedule == "cosine" else functional.constant()


def execute(spec: RunSpec, experiment: str, place: Place) -> Result:
    """Train and evaluate one run. Never raises for what goes wrong inside it: that becomes the row's status.

    A trick that cannot act is `skipped`; a loss that is not finite is `diverged`; everything else that
    raises is `failed`. The reason is stored either way.
    """
    started, wall = datetime.now(UTC), time.perf_counter()
    _isolate(spec.seed)
    reset_peak_memory(place.device)
    result = Result(row={})
    clock, session, status, reason = Clock(), None, "ok", ""
    measured: dict[str, Any] = {}
    try:
        session = set_up(spec, place)
        states = _global_rng_states() if place.check else None
        for points in train(
            session.run, session.stack, session.loader, session.amp, session.lr_factors,
            lambda: session.validate(place), clock, place.check,
        ):  # fmt: skip
            result.points += points
        if states is not None and states != _global_rng_states():
            raise AssertionError("something drew from a global random generator")
        measured, result.predictions = _final(session, place)
    except NotApplicable as error:
        status, reason = "skipped", str(error)
    except Diverged as error:
        status, reason = "diverged", str(error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        status, reason = (
            "failed",
            f"out of memory: {str(error).splitlines()[0] if str(error) else ''}".strip(": "),
        )
    except UserError as error:
        status, reason = "failed", str(error)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).splitlines()[0] if str(error) else ""
        status, reason = (
            "failed",
            f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})",
        )
    train_loss = [p.value for p in result.points if p.split == "train" and p.metric == "loss"]
    run = session.run if session else None
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
        "seconds_other": session.seconds_other if session else 0.0,
        "seconds_per_step": clock.wall / clock.steps if clock.steps else None,
        "images_per_second": clock.steps * run.recipe.batch_size / clock.wall if run and clock.steps else None,
        "packed": place.packed,
        "peak_memory_bytes": peak_memory(place.device),
        "parameters": sum(p.numel() for p in run.model.parameters()) if run else None,
        "started": started,
        "finished": datetime.now(UTC),
        "data_hash": load_source(spec.data, place.data_root).digest if session else None,
        **fingerprint(spec.recipe, place.device, place.threads),
        **host_facts(),
        **measured,
    }
    return result


def _final(session: Session, place: Place) -> tuple[dict[str, Any], Predictions]:
    """Read validation, clean training and, once, the test split, with the last weights."""
    model = session.stack.fold("finalize", session.evaluated_model(), session.run)
    val = session.predict(model, session.splits.val, place)
    test = session.predict(model, session.splits.test, place)
    own = session.splits.train
    few = slice(0, CLEAN_TRAIN_LIMIT)
    clean = session.predict(model, Held(own.images[few], own.label[few], own.index[few], own.peak), place)
    out: dict[str, Any] = {f"val_{k}": v for k, v in metrics(val.logits, val.label).items()}
    out |= {f"test_{k}": v for k, v in metrics(test.logits, test.label).items()}
    fit = metrics(clean.logits, clean.label)
    out |= {"train_accuracy": fit["accuracy"], "train_nll": fit["nll"]}
    logits = test.logits.cpu().contiguous()
    out["test_digest"] = hashlib.sha256(logits.numpy().tobytes()).hexdigest()[:16]
    out["forward_flops"] = forward_flops(model, session.run)
    if not bool(torch.isfinite(logits).all()):
        raise Diverged("the trained network predicts values that are not finite")
    return out, test


def forward_flops(model: nn.Module, run: Run) -> int:
    """FLOPs of one image's forward pass, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    mode = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, run.data.channels, run.data.size, run.data.size, device=run.device))
    model.train(mode)
    return int(counter.get_total_flops())


def fetch_or_train(spec: RunSpec, place: Place) -> Classifier:
    """The trained network of another run: from stored weights, else trained now and stored."""
    path = (
        place.weights_dir / f"{spec.run_id}-{fingerprint(spec.recipe, place.device, place.threads)['fingerprint']}.pt"
        if place.weights_dir
        else None
    )
    session = set_up(spec, place)
    if path is not None and path.is_file():
        session.run.model.load_state_dict(torch.load(path, map_location=place.device, weights_only=True))
        return session.run.model.eval()
    for _ in train(
        session.run, session.stack, session.loader, session.amp, session.lr_factors, dict, Clock(), place.check
    ):  # fmt: skip
        pass
    model = session.evaluated_model().eval()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(model.state_dict(), temporary)
        os.replace(temporary, path)
    return model


def _isolate(seed: int) -> None:
    """Reset what a previous run in this process may have left: global generators and flags.

    The harness never draws from global generators; libraries that do still see the same state in every run.
    """
    torch.manual_seed(rng.derive(seed, "global"))
    np.random.seed(rng.derive(seed, "global") % 2**32)  # noqa: NPY002 (that of libraries, not ours)
    random.seed(rng.derive(seed, "global"))
    torch.set_grad_enabled(True)


def _global_rng_states() -> tuple[Any, ...]:
    return (torch.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state()[1].tobytes())  # type: ignore[index]  # noqa: NPY002


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
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
