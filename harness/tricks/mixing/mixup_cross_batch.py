"""Mixup whose partners come from a second pass over the training set in an order of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at
from harness.tricks.images import TrainingPixels


def blend(batch: Batch, x: Tensor, y: Tensor, weight: float) -> Batch:
    """Mix with other images x (N, C, H, W) and targets y (N, K): weight * batch + (1 - weight) * other."""
    return replace(batch, x=torch.lerp(x, batch.x, weight), y=torch.lerp(y, batch.y, weight))


class MixupCrossBatch(Trick):
    """Zhang et al. 2017, 1710.09412, section 2, with two loaders in the place of one."""

    info: ClassVar = Info(
        name="mixup_cross_batch",
        family="mixing",
        summary="mixup with partners from a second loader",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 2",
        formula=(
            "x = w x_i + (1 - w) x_j, y = w y_i + (1 - w) y_j, w ~ Beta(alpha, alpha) per batch, j the next image of "
            "another random order of the training set"
        ),
        expect=(
            "As mixup: the paper found pairing inside a batch as good as two loaders. May differ for tiny batches, "
            "whose permutations often leave an image in its place."
        ),
        differs=(
            "Partners are augmented as the recipe says, by draws of their own, but not by other tricks. They are "
            "read from a copy of the training set on the device, so it must fit there."
        ),
        cost=1.05,
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0

    def prepare(self, run: Run) -> None:
        """Put the training split on the device."""
        run.state[self.name] = {"pixels": TrainingPixels(run)}

    def epoch_start(self, run: Run) -> None:
        """Draw the order of the second pass."""
        n = len(run.train.label)
        run.state[self.name]["order"] = torch.randperm(n, generator=run.rng(self.name), device=run.device)

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one weight, take the next images of the second pass, and mix."""
        weight = float(run.numpy(self.name).beta(self.alpha, self.alpha))
        pixels, order = run.state[self.name]["pixels"], run.state[self.name]["order"]
        # A sampler may make epochs longer than the training set; the second pass then goes round.
        first = run.step % run.steps_per_epoch * run.recipe.batch_size
        rank = torch.arange(first, first + len(batch.x), device=run.device) % len(order)
        x, y = pixels.draw(order[rank], run.rng(self.name), batch.x.shape[-1])
        return blend(batch, x, y, weight)
