"""CutMix: paste a box of another image and mix the targets by area."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.mixtures import box, cutmix


class Cutmix(Trick):
    """Yun et al. 2019, 1905.04899, algorithm A1."""

    info: ClassVar = Info(
        name="cutmix",
        family="mixing",
        summary="paste a box of another image, mix targets by area",
        paper="Yun, Han, Oh, Chun, Choe, Yoo 2019, arXiv:1905.04899",
        formula=(
            "w ~ Beta(alpha, alpha); a box with sides sqrt(1 - w) of the image's, centred anywhere and "
            "clipped, comes from x_j, j a random permutation; y = w' y_i + (1 - w') y_j with w' the share "
            "of pixels that stay"
        ),
        expect=(
            "Helps nets that overfit in long training on natural images. Weak where small objects fill the "
            "frame, as with digits: a box may replace what defines the class. Training accuracy is "
            "meaningless under it."
        ),
        differs=(
            "The default prob = 0.5 is the authors' for CIFAR; for ImageNet they have 1.0. Box sides are even numbers "
            "of pixels, as in their code, so w' is coarse on tiny images."
        ),
    )
    alpha: Annotated[float, Field(gt=0), Search(0.1, 4.0, log=True)] = 1.0
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 0.5

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one box and the partners, and paste."""
        host = run.numpy(self.name)
        size = (batch.x.shape[-2], batch.x.shape[-1])
        keep = float(host.beta(self.alpha, self.alpha))
        row, column = (int(host.random() * side) for side in size)
        skip = host.random() >= self.prob
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return batch if skip else cutmix(batch, partner, box(size, keep, row, column))
