"""CutMix: paste a box of another image and mix the targets by area."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import mix


class Box(NamedTuple):
    """Rows top to bottom and columns left to right, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


def box(size: tuple[int, int], keep: float, row: int, column: int) -> Box:
    """The box of area about 1 - `keep` of the image, of its shape, centred at a pixel and clipped."""
    half_height, half_width = (int(side * (1 - keep) ** 0.5) // 2 for side in size)
    return Box(
        max(row - half_height, 0),
        min(row + half_height, size[0]),
        max(column - half_width, 0),
        min(column + half_width, size[1]),
    )


def cutmix(batch: Batch, partner: Tensor, where: Box) -> Batch:
    """Paste the box of `partner` (a permutation, (N,)) into each image; y mixes by the share of pixels."""
    top, bottom, left, right = where
    x = batch.x.clone()
    x[..., top:bottom, left:right] = batch.x[partner, :, top:bottom, left:right]
    keep = 1 - (bottom - top) * (right - left) / (x.shape[-2] * x.shape[-1])
    return replace(batch, x=x, y=mix(batch.y, partner, keep))


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
