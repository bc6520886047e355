"""The first half of setting up a run, which is all that predicting needs: data, network and surgery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from harness import rng
from harness.data.sources import load_source
from harness.data.splits import Splits, split
from harness.data.types import Part, Source
from harness.experiment import RunSpec
from harness.models.build import build
from harness.models.classifier import Classifier
from harness.training.evaluate import Predictions, mean_probability, predict_all
from harness.training.loop import Clock
from harness.training.place import Place
from harness.training.precision import DTYPES, Amp
from harness.tricks import registry
from harness.tricks.contract import Precision, Run, Stage
from harness.tricks.stack import Stack


@dataclass
class Assembled:
    """A run whose data are split and whose network is built, with the baseline's initial weights."""

    run: Run
    stack: Stack
    splits: Splits
    setup: Clock = field(default_factory=Clock)
    """Time of the hooks that may train or predict in set-up: `dataset`, `init` and `prepare`."""

    @contextmanager
    def clocked(self) -> Iterator[None]:
        """Add what is done inside to the clock of set-up."""
        _wait(self.run.device)
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            _wait(self.run.device)
            self.setup.wall += time.perf_counter() - wall
            self.setup.cpu += time.process_time() - cpu

    def amp(self) -> Amp:
        """Forward and backward in the precision of the recipe or of a trick."""
        precision = self.stack.slot("precision", lambda run: Precision(DTYPES[run.recipe.precision]))(self.run)
        return Amp(precision, self.run.device)


def assemble(
    spec: RunSpec, place: Place, stage: Callable[[RunSpec], Stage], source: Source | None = None, relabel: bool = True
) -> Assembled:
    """Split the data, build the network and change it as the tricks say.

    Args:
        spec: the run.
        place: where it executes.
        stage: hands over the runs that it needs.
        source: its images where the caller has loaded them.
        relabel: whether tricks may rewrite the training split, which nothing but training needs.

    Raises:
        NotApplicable: a trick cannot act here.
        UserError: data or model cannot be had, or tricks conflict.
    """
    device = torch.device(place.device)
    stack = Stack(registry.make(t.name, t.params) for t in spec.arm.tricks)
    for trick in stack.tricks:
        trick.check_acts()
    seed_of = stack.slot("stream_seed", lambda seed, purpose: seed)
    splits = split(source or load_source(spec.data, place.data_root), spec.data, spec.seed)
    recipe = place.laid_out(stack.fold("recipe", spec.recipe, splits.info))
    run = Run(spec=spec, recipe=recipe, data=splits.info, device=device, stage=stage, seed_of=seed_of)
    run.rehearsal = place.rehearsal
    run.model = build(spec.model, splits.info, seed_of(spec.seed, rng.INIT))
    run.train, run.unlabelled = splits.train, splits.unlabelled
    made = Assembled(run, stack, splits)
    if relabel and stack.hooks("dataset"):
        with made.clocked():
            run.train = stack.fold("dataset", run.train, run)
    run.steps_per_epoch = len(run.train.rows) // recipe.batch_size
    run.model.to(device)
    run.model = stack.fold("model", run.model, run)
    return made


def predict(made: Assembled, amp: Amp, networks: Sequence[Classifier], part: Part) -> Predictions:
    """Predictions of networks through the arm's predictors; of several networks, their mean probability."""
    outs = [_predict(made, amp, network, part) for network in networks]
    if len(outs) == 1:
        return outs[0]
    return Predictions(mean_probability([out.logits for out in outs]), outs[0].label, outs[0].index)


def _predict(made: Assembled, amp: Amp, network: Classifier, part: Part) -> Predictions:
    run = made.run
    live, mode = run.model, network.training
    run.model = network.eval()  # what a predictor reads or writes is what predicts
    try:
        with amp.autocast():
            predictor = made.stack.fold("predictor", network, run)
            return predict_all(predictor, part, run.device, run.recipe.channels_last)
    finally:
        run.model = live
        network.train(mode)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
