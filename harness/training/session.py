"""A run that is ready to train: data, weights, surgery, optimizer and schedule, in the order that the hooks imply."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness import rng
from harness.data.batches import Loader
from harness.data.sources import images_of, load_source
from harness.data.splits import Held, Splits, split
from harness.data.types import Source
from harness.experiment import Data, Experiment, Recipe, RunSpec
from harness.identity import key_of
from harness.models.build import build
from harness.models.classifier import Classifier
from harness.training import files
from harness.training.evaluate import Predictions, mean_probability, metrics, predict_all
from harness.training.graph import GraphedStep, graphed, reason_against
from harness.training.layout import AtRisk, layer_at_risk
from harness.training.loop import Clock, step_of, total_loss, train
from harness.training.precision import DTYPES, Amp
from harness.training.provenance import deciding_packages, fingerprint
from harness.tricks import functional, registry
from harness.tricks.contract import HOOKS, Batch, DataInfo, Groups, NoEffect, Precision, Run, Schedule, overrides
from harness.tricks.stack import Stack


@dataclass(frozen=True)
class Place:
    """Where and how runs execute on this machine; nothing here may change a result beyond its last bits."""

    data_root: Path
    device: str = "cpu"
    threads: int = 1
    packed: bool = False
    cuda_graphs: bool = False
    """Capture training steps and replay them, on a CUDA device (`training.graph`)."""
    check: bool = False
    weights_dir: Path | None = None
    """Shared folder for the weights of runs that other runs ask for (teachers)."""
    checkpoint_dir: Path | None = None
    checkpoint_seconds: float = 60.0
    """Longest training time that a kill can cost, to the next end of an epoch."""
    contiguous: bool = False
    """Train in the contiguous layout, whatever the recipe says (`layout.layer_at_risk`)."""
    rehearsal: bool = False
    """Networks of other runs come untrained, set-up phases do one step, and a layout at risk is refused."""

    def fingerprint(self, of: RunSpec | Experiment) -> dict[str, str]:
        """What changes the bits of a run beside its spec (`provenance.fingerprint`)."""
        packages = deciding_packages(of.data, of.model)
        return fingerprint(self.laid_out(of.recipe), self.device, self.threads, self.cuda_graphs, packages)

    def name(self, spec: RunSpec, images: str | None = None) -> str:
        """What files of a run are named by: its key and its fingerprint. Loads the images, or takes their digest."""
        identity = registry.identify(spec, images or load_source(spec.data, self.data_root).digest)
        return f"{key_of(spec.run_id, identity.short)}-{self.fingerprint(spec)['fingerprint']}"

    def laid_out(self, recipe: Recipe) -> Recipe:
        """The recipe with the memory layout that is used here."""
        return recipe.model_copy(update={"channels_last": False}) if self.contiguous else recipe


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
    seconds_other: float = 0.0

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

    def finalized(self) -> tuple[Classifier, ...]:
        """The evaluated networks as the arm's tricks leave them before the test is read."""
        return tuple(self.stack.fold("finalize", network, self.run) for network in self.evaluated())

    def predict(self, networks: Sequence[Classifier], held: Held) -> Predictions:
        """Predictions of the networks through the arm's predictors; of several networks, their mean probability."""
        outs = [self._predict(network, held) for network in networks]
        return outs[0] if len(outs) == 1 else replace(outs[0], logits=mean_probability([out.logits for out in outs]))

    def _predict(self, network: Classifier, held: Held) -> Predictions:
        run, live, mode = self.run, self.run.model, network.training
        run.model = network.eval()  # what a predictor reads or writes is what predicts
        try:
            with self.amp.autocast():
                predict = self.stack.fold("predictor", network, run)
                return predict_all(predict, held, run.device, run.recipe.channels_last)
        finally:
            run.model = live
            network.train(mode)

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
    device = torch.device(place.device)
    stack = Stack(registry.make(t.name, t.params) for t in spec.arm.tricks)
    for trick in stack.tricks:
        trick.check_acts()
    seed_of = stack.slot("stream_seed", lambda seed, purpose: seed)
    source = source or load_source(spec.data, place.data_root)
    splits = split(source, spec.data, spec.seed)
    recipe: Recipe = place.laid_out(stack.fold("recipe", spec.recipe, splits.info))
    other_seconds = [0.0]

    def train_other(other: RunSpec) -> Classifier:
        started = time.perf_counter()
        # A folder may change while a run is set up; both networks learn from what it was.
        same = images_of(other.data) == images_of(spec.data)
        try:
            return fetch_or_train(other, place, source if same else None)
        finally:
            other_seconds[0] += time.perf_counter() - started

    run = Run(spec=spec, recipe=recipe, data=splits.info, device=device, train_other=train_other, seed_of=seed_of)
    run.rehearsal = place.rehearsal
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
    if place.rehearsal and recipe.channels_last and device.type == "cpu":  # before anything trains, hooks of `init` too
        layer = layer_at_risk(run.model)
        if layer:
            raise AtRisk(layer)
    for hook in stack.hooks("init"):
        before = [p.detach().clone() for p in run.model.parameters()]
        hook(run.model, run)
        if all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True)):
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

    precision = stack.slot("precision", lambda run: Precision(DTYPES[run.recipe.precision]))(run)
    amp = Amp(precision, device)
    run.autocast, run.backward = amp.autocast, amp.backward
    run.unscale = lambda: amp.unscale(run.optimizer)
    run.loss = total_loss(run, stack, amp)
    stack.notify("prepare", run)
    step = step_of(run, stack, amp)
    if place.cuda_graphs:
        step = graphed(step, run, stack, amp)
    return Session(run, stack, splits, loader, amp, step, lr_factors, other_seconds[0])


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


def fetch_or_train(spec: RunSpec, place: Place, source: Source | None = None) -> Classifier:
    """The trained network of another run: from stored weights, else trained now and stored.

    In a rehearsal, the network as it is before training. `source` is as in `set_up`.
    """
    source = source or load_source(spec.data, place.data_root)
    path = place.weights_dir and place.weights_dir / f"{place.name(spec, source.digest)}.pt"
    session = set_up(spec, place, source)
    if place.rehearsal:
        return session.evaluated()[-1].eval()
    if path is not None and path.is_file():
        with suppress(EOFError, RuntimeError, ValueError, KeyError, OSError, pickle.UnpicklingError):  # damaged: train
            session.run.model.load_state_dict(torch.load(path, map_location=place.device, weights_only=True))
            return session.run.model.eval()
    for _ in train(
        session.run, session.stack, session.loader, session.step, session.lr_factors, dict, Clock(), place.check
    ):  # fmt: skip
        pass
    model = session.evaluated()[-1].eval()
    if path is not None:
        with suppress(OSError, RuntimeError):  # stored weights only save time
            files.save(path, model.state_dict())
    return model
