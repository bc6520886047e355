"""Cutout: hide a square of each image."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import table
from harness.tricks.images import box_mask


def cutout(x: Tensor, centers: Tensor, length: int, fill: Tensor) -> Tensor:
    """Fill squares of `length` pixels around `centers` (N, holes, 2), rows and columns, with `fill` (C,)."""
    side = torch.full_like(centers[..., 0], length)
    corner = centers - length // 2
    hidden = box_mask(corner[..., 0], corner[..., 1], side, side, (x.shape[-2], x.shape[-1])).any(1)
    return torch.where(hidden[:, None], fill.view(1, -1, 1, 1), x)


class Cutout(Trick):
    """DeVries & Taylor 2017, 1708.04552, section 3."""

    info: ClassVar = Info(
        name="cutout",
        family="augment",
        summary="hide a random square of each image",
        paper="DeVries, Taylor 2017, arXiv:1708.04552",
        formula=(
            "x = fill inside a square of side length * H whose centre is a uniform pixel, so that "
            "part of it may lie outside the image; after cropping and flipping; y unchanged"
        ),
        expect=(
            "Helps on small natural images whose classes have redundant evidence. Harms where one part "
            "decides: digits lose their class under squares of half the side. The fill may "
            "matter: squares of 3 pixels on 100 digits gave -0.71 points [-1.97, 0.54] when black, the colour of the "
            "background, and +0.79 [-0.60, 2.19] in the mean colour (10 seeds each, 95 % intervals)."
        ),
        differs=(
            "`fill = 'black'` is an addition; the paper's zeros after normalisation are the mean colour. Its side is "
            "half the image for CIFAR-10, a quarter for CIFAR-100, 5/8 for SVHN"
        ),
    )
    length: Annotated[float, Field(ge=0, le=1), Search(0.125, 0.625), NoOp(0)] = 0.5
    n_holes: Annotated[int, Field(ge=1), Search(1, 3)] = 1
    fill: Annotated[Literal["mean", "black"], Choice(("mean", "black"))] = "mean"

    @at(BatchStage.NOISE)  # after every geometric change of the stage AUGMENT, as in the paper
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one centre per image and hole, and fill."""
        n, _, height, width = batch.x.shape
        u = torch.rand(n, self.n_holes, 2, generator=run.rng(self.name), device=batch.x.device)
        centers = torch.stack((u[..., 0] * height, u[..., 1] * width), -1).long()
        fill = table(run.data.mean if self.fill == "mean" else (0.0,) * run.data.channels, batch.x)
        return replace(batch, x=cutout(batch.x, centers, round(self.length * height), fill))
