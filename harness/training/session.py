"""A run that is ready to train: data, weights, surgery, optimizer and schedule, in the order that the hooks imply."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from harness import rng
from harness.data.batches import Loader
from harness.data.sources import load_source
from harness.data.splits import Splits, split
from harness.data.types import Part, Source
from harness.errors import UserError
from harness.experiment import Data, RunSpec
from harness.models.classifier import Classifier
from harness.training.assemble import Assembled, assemble, predict
from harness.training.evaluate import Predictions, metrics
from harness.training.graph import GraphedStep, graphed, reason_against
from harness.training.layout import AtRisk, layer_at_risk
from harness.training.loop import Clock, step_of, total_loss
from harness.training.place import Place
from harness.training.precision import Amp
from harness.training.stages import Cost, Needed
from harness.tricks import functional
from harness.tricks.contract import HOOKS, Batch, DataInfo, Groups, NoEffect, Run, Schedule, overrides
from harness.tricks.stack import Stack


@dataclass
class Session:
    """A run that is set up and ready to train."""

    run: Run
    stack: Stack
    splits: Splits
    loader: Loader
    amp: Amp
    step: Callable[[Batch], torch.Tensor]
    lr_factors: list[float]
    setup: Clock
    stages: Mapping[str, Cost]
    """What the run needed, and what its stages needed, by the names of their files."""

    @property
    def plain_steps(self) -> str:
        """Why training steps are not replayed as CUDA graphs; empty when they are."""
        if isinstance(self.step, GraphedStep):
            return self.step.refused
        return reason_against(self.run, self.stack, self.amp)

    def evaluated(self) -> tuple[Classifier, ...]:
        """The networks whose predictions count now, the newest last: those of the slot's owner, or the live one."""
        found: Classifier | Sequence[Classifier] = self.stack.slot("evaluation_weights", lambda run: run.model)(
            self.run
        )
        return (found,) if isinstance(found, torch.nn.Module) else tuple(found)

    def finalized(self, evaluated: Sequence[Classifier]) -> tuple[Classifier, ...]:
        """The evaluated networks as the arm's tricks leave them before the test is read; they are rewritten."""
        return tuple(self.stack.fold("finalize", network, self.run) for network in evaluated)

    def predict(self, networks: Sequence[Classifier], part: Part) -> Predictions:
        """Predictions of the networks through the arm's predictors; of several networks, their mean probability."""
        return predict(Assembled(self.run, self.stack, self.splits), self.amp, networks, part)

    def validate(self) -> dict[str, float]:
        """Metrics of the validation split."""
        out = self.predict(self.evaluated(), self.splits.val)
        return metrics(out.logits, out.label)


def set_up(spec: RunSpec, place: Place, source: Source | None = None) -> Session:
    """Build everything of a run: data, weights, surgery, optimizer, schedule.

    Args:
        spec: the run.
        place: where it executes.
        source: its images where the caller has loaded them.

    Raises:
        NotApplicable: a trick cannot act here.
        UserError: data or model cannot be had, or tricks conflict.
        AtRisk: in a rehearsal, the network must not be trained in this layout.
    """
    needed = Needed(spec, place, source)
    made = assemble(spec, place, needed, source)
    run, stack, splits, device, recipe = made.run, made.stack, made.splits, made.run.device, made.run.recipe
    seed_of = run.seed_of
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
    if place.rehearsal and device.type == "cpu":  # before anything trains, hooks of `init` too
        layer = layer_at_risk(run.model) if recipe.channels_last or recipe.compile else ""
        if layer and recipe.compile:  # the compiler takes channels last of its own accord
            raise UserError(
                f"recipe.compile: compiled for this processor, {layer} of {spec.model.name} would corrupt memory, "
                "since a strided 1x1 convolution has too few channels; leave compile out, or take a wider network"
            )
        if layer:
            raise AtRisk(layer)
    for hook in stack.hooks("init"):
        before = [p.detach().clone() for p in run.model.parameters()]
        with made.clocked():
            hook(run.model, run)
        if not run.rehearsal and all(map(torch.equal, before, run.model.parameters())):
            raise NoEffect(f"{hook.__self__.name} left every weight as it was")  # type: ignore[attr-defined]
    run.model.to(device)
    if recipe.channels_last:
        run.model.to(memory_format=torch.channels_last)

    groups = stack.fold("param_groups", baseline_groups(run), run)
    run.optimizer = stack.slot("optimizer", baseline_optimizer)(groups, run)
    for group in run.optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    run.optimizer = stack.fold("wrap_optimizer", run.optimizer, run)
    lr_factors = factors_of_rate(stack, run)

    amp = made.amp()
    run.autocast, run.backward = amp.autocast, amp.backward
    run.unscale = lambda: amp.unscale(run.optimizer)
    run.loss = total_loss(run, stack, amp)
    if stack.hooks("prepare"):
        with made.clocked():
            stack.notify("prepare", run)
    step = step_of(run, stack, amp)
    if place.cuda_graphs:
        step = graphed(step, run, stack, amp)
    return Session(run, stack, splits, loader, amp, step, lr_factors, made.setup, needed.costs)


def data_info(data: Data, place: Place) -> DataInfo:
    """What tricks may know of the data of the first seed.

    Raises:
        UserError: they cannot be had, or are too few.
    """
    return split(load_source(data, place.data_root), data, 0).info


def _transforms(stack: Stack, run: Run) -> Callable[[torch.Tensor], torch.Tensor] | None:
    if not stack.hooks("sample_transform"):
        return None
    return lambda image: stack.fold("sample_transform", image, run)


def baseline_groups(run: Run) -> Groups:
    """All parameters that are trained, those of the last layer apart where they have a rate of their own."""
    trained = [p for p in run.model.parameters() if p.requires_grad]
    if run.recipe.head_lr is None:
        return [{"params": trained}]
    last = set(run.model.head.parameters())
    groups: Groups = [
        {"params": [p for p in trained if p not in last]},
        {"params": [p for p in trained if p in last], "lr": run.recipe.head_lr},
    ]
    return [group for group in groups if group["params"]]


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


def factors_of_rate(stack: Stack, run: Run) -> list[float]:
    """The factor on the peak rate at every update.

    Raises:
        NoEffect: a trick that changes nothing but the schedule leaves it as it was.
    """

    def factors(schedule: Schedule) -> list[float]:
        return [schedule(step / run.total_steps) for step in range(run.total_steps)]

    schedule = baseline_schedule(run)
    found = factors(schedule)
    for name in ("schedule", "wrap_schedule"):
        for hook in stack.hooks(name):
            before, owner = found, hook.__self__  # type: ignore[attr-defined]
            schedule = hook(run) if name == "schedule" else hook(schedule, run)
            found = factors(schedule)
            only = [h for h in HOOKS if overrides(owner, h)] == [name]
            if only and all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(before, found, strict=True)):
                raise NoEffect(f"{owner.name} leaves the learning rate as it is at every update")
    return found
