"""FixRes: train on small images, then tune the head for the size of the test."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, NoOp, NotApplicable, Run, Search, Trick, at
from harness.tricks.images import resized
from harness.tricks.modules import batch_norms, check_forward


def tuned(run: Run) -> tuple[set[nn.Parameter], nn.Module | None]:
    """The parameters that are tuned, those of the head and of the last batch norm, and that norm."""
    norms = batch_norms(run.model)
    last = norms[-1] if norms else None
    return {*run.model.head.parameters(), *(last.parameters() if last else ())}, last


class Fixres(Trick):
    """Touvron et al. 2019, 1906.06423, section 4.2."""

    info: ClassVar = Info(
        name="fixres",
        family="evaluation",
        summary="train small, then tune head and last norm at the test's size",
        paper="Touvron, Vedaldi, Douze, Jégou 2019, arXiv:1906.06423, section 4.2",
        formula=(
            "until the last round(tune epochs) epochs, batches are resized to round(scale S) pixels a side; then they "
            "have S, and only the head and the last batch norm are trained, with its statistics"
        ),
        expect=(
            "Adapts the statistics of the features to the test's size: in the paper 77.0 to 79.1 % for a ResNet-50 "
            "that was trained at 224 and is tested at 384. On tiny images the loss of detail in training costs more."
        ),
        differs=(
            "Tuning is the end of the one schedule, where the paper starts a second one. Images are resized after "
            "augmentation. Other norms keep their statistics while the last is tuned, as there."
        ),
        cost=0.65,
        excludes={
            "bn_freeze": "each decides which norms follow the batch",
            "gradual_unfreezing": "each decides which parameters have gradients",
            "layer_freezing": "each decides which parameters have gradients",
            "train_resolution": "it resizes all of training",
        },
    )
    scale: Annotated[float, Field(gt=0, lt=2), Search(0.5, 0.95), NoOp(1)] = 0.786
    tune: Annotated[float, Field(gt=0, lt=1), Search(0.05, 0.5)] = 0.1

    def first(self, run: Run) -> int:
        """The first epoch of tuning, counted from zero."""
        return run.recipe.epochs - max(1, round(self.tune * run.recipe.epochs))

    def prepare(self, run: Run) -> None:
        """Try the size."""
        side = round(self.scale * run.data.size)
        if side == run.data.size:
            raise NoEffect(f"scale = {self.scale:g} of {run.data.size} pixels is the full size")
        if self.first(run) < 1:
            raise NotApplicable(f"{run.recipe.epochs} epochs leave none for training before the tuning")
        check_forward(run.model, run, side, f"images of {side} pixels a side")

    def epoch_start(self, run: Run) -> None:
        """Freeze what is not tuned; norms follow `model.train()`, so they are frozen again before every epoch."""
        if run.epoch < self.first(run):
            return
        kept, last = tuned(run)
        for parameter in run.model.parameters():
            if parameter not in kept:
                parameter.requires_grad_(False)
        for norm in batch_norms(run.model):
            if norm is not last:
                norm.eval()

    @at(BatchStage.RESIZE)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Resize until the tuning begins."""
        if run.epoch >= self.first(run):
            return batch
        return replace(batch, x=resized(batch.x, round(self.scale * batch.x.shape[-1])))
