"""Mixup of the images, with a smoothed target in the place of the mixed one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at
from harness.tricks.functional import mix


def mixup_smoothed(batch: Batch, partner: Tensor, weight: float, eps: float) -> Batch:
    """Mix pixels with `partner` (a permutation, (N,)); y is the closer image's, moved to uniform by eps."""
    y = batch.y if weight >= 0.5 else batch.y[partner]
    return replace(batch, x=mix(batch.x, partner, weight), y=(1 - eps) * y + eps / y.shape[1])


class MixupPlusLabelSmoothing(Trick):
    """Zhang et al. 2017, 1710.09412, section 3.8, arm "mix inputs + label smoothing"."""

    info: ClassVar = Info(
        name="mixup_plus_label_smoothing",
        family="mixing",
        summary="mixup of images with a smoothed target",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 3.8",
        formula=(
            "x = w x_i + (1 - w) x_j, y = (1 - eps) y_c + eps / K, c the image of the larger weight, "
            "w ~ Beta(alpha, alpha) per batch, j a random permutation"
        ),
        expect=(
            "An arm that asks whether any soft target explains mixup's gain: in the paper it gains less than mixup. "
            "For mixed targets that are smoothed on top, run mixup and label_smoothing together instead."
        ),
        excludes={
            "label_smoothing": "targets would be smoothed twice",
        },
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0
    eps: Annotated[float, Field(ge=0, lt=1), Search(0.05, 0.4)] = 0.1

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one weight and the partners, mix the pixels and smooth the target."""
        weight = float(run.numpy(self.name).beta(self.alpha, self.alpha))
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return mixup_smoothed(batch, partner, weight, self.eps)
