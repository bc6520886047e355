"""Mixup of the images alone: the target is that of the image with the larger share."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at
from harness.tricks.functional import mix


def mixup_inputs(batch: Batch, partner: Tensor, weight: float) -> Batch:
    """Mix pixels with `partner` (a permutation, (N,)); targets are the image's own if weight >= 1/2."""
    y = batch.y if weight >= 0.5 else batch.y[partner]
    return replace(batch, x=mix(batch.x, partner, weight), y=y)


class MixupInputOnly(Trick):
    """Zhang et al. 2017, 1710.09412, section 3.8, arm AC + RP with inputs only."""

    info: ClassVar = Info(
        name="mixup_input_only",
        family="mixing",
        summary="mixup of images with the target of the closer one",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 3.8",
        formula=(
            "x = w x_i + (1 - w) x_j, y = y_i if w >= 1/2 else y_j, w ~ Beta(alpha, alpha) per batch, j a random "
            "permutation"
        ),
        expect=(
            "An arm that shows what mixing the targets is worth: in the paper it gains a fraction of mixup's gain "
            "at a small weight decay, and nothing at a large one."
        ),
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one weight and the partners, and mix the pixels."""
        weight = float(run.numpy(self.name).beta(self.alpha, self.alpha))
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return mixup_inputs(batch, partner, weight)
