"""Selective backpropagation: only images with large losses are passed back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.tricks.contract import Batch, Info, NoEffect, NoOp, Passes, Run, Search, Trick, at
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.modules import frozen_statistics


def chosen(losses: Tensor, count: int, power: float, generator: torch.Generator) -> Tensor:
    """Positions of `count` of the losses (N,), drawn without replacement in proportion to their ranks^power."""
    ranks = losses.argsort().argsort() + 1
    noise = torch.rand(losses.shape, generator=generator, device=losses.device).clamp(min=1e-12)
    # The largest of power log(rank) + Gumbel noise are such a draw (Efraimidis & Spirakis 2006).
    return (power * ranks.to(losses.dtype).log() - (-noise.log()).log()).topk(count).indices


class SelectiveBackprop(Trick):
    """Jiang et al. 2019, 1910.00762, section 3; the window of training is Composer's."""

    info: ClassVar = Info(
        name="selective_backprop",
        family="regularization",
        summary="pass only images with large losses back",
        paper="Jiang et al. 2019, arXiv:1910.00762, section 3; window of training: Composer (SelectiveBackprop)",
        formula=(
            "from `start` to `end` of training, keep N images of each batch, drawn in proportion to (rank of the "
            "loss)^power, are trained on; the forward pass that ranks them has no gradient"
        ),
        expect=(
            "Saves time where the backward pass is the most of it; accuracy stays or falls by tenths. Under label "
            "noise it prefers wrong labels. On a small net the second forward pass costs as much as is saved."
        ),
        differs=(
            "Ranks within the batch in place of those in a history of losses, and a fixed number of images. The last "
            "part of training sees all images, as in Composer. No image is shrunk for the ranking pass."
        ),
        cost=1.0,
        eager="it begins and ends at a step",
    )
    keep: Annotated[float, Field(gt=0, le=1), Search(0.2, 0.9), NoOp(1)] = 0.5
    power: Annotated[float, Field(ge=0), Search(0.0, 4.0)] = 2.0
    start: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.7)] = 0.5
    end: Annotated[float, Field(gt=0, le=1), Search(0.75, 1.0)] = 0.9

    @model_validator(mode="after")
    def _ordered(self) -> SelectiveBackprop:
        if self.start >= self.end:
            raise ValueError(f"start = {self.start} is not before end = {self.end}")
        return self

    def prepare(self, run: Run) -> None:
        """Refuse a window without an update, and a batch that stays whole."""
        steps = [step for step in range(run.total_steps) if self.start <= step / run.total_steps < self.end]
        if not steps or round(self.keep * run.recipe.batch_size) >= run.recipe.batch_size:
            raise NoEffect("no update lies between start and end, or keep leaves the batch whole")

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Rank the images, and take the gradient of some."""
        if self.start <= run.progress < self.end:
            with torch.no_grad(), frozen_statistics(run.model), run.autocast():
                logits = run.model(batch.x)
            count = max(1, round(self.keep * len(batch.x)))
            losses = soft_cross_entropy(logits.float(), batch.y)
            rows = chosen(losses, count, self.power, run.rng(self.name))
            batch = replace(batch, **{f.name: getattr(batch, f.name)[rows] for f in fields(batch)})
        loss = closure(batch)
        run.backward(loss)
        return loss.detach()
