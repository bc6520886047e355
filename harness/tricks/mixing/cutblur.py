"""CutBlur: a box of each image at low resolution, or all but the box."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.images import box_mask


def coarse(x: Tensor, scale: int) -> Tensor:
    """Images (N, C, H, W) made `scale` times smaller and as large again, bilinearly."""
    sides = [max(1, side // scale) for side in x.shape[-2:]]
    small = F.interpolate(x, sides, mode="bilinear", antialias=True)
    return F.interpolate(small, x.shape[-2:], mode="bilinear")


class CutBlur(Trick):
    """Yoo et al. 2020, 2004.00448, section 3."""

    info: ClassVar = Info(
        name="cutblur",
        family="mixing",
        summary="a box of each image at low resolution, or all but it",
        paper="Yoo, Ahn, Sohn 2020, arXiv:2004.00448, section 3 (super-resolution)",
        formula=(
            "with probability p per image z is x made `scale` times smaller and as large again; either a box with "
            "sides `ratio` of the image's, at a random place, comes from z and the rest from x, or the other way "
            "round, each half the time; y unchanged"
        ),
        expect=(
            "The paper's gains are in super-resolution, where a net learns where to sharpen. In classification a mild "
            "augmentation that may help against blur; hard on tiny images, whose strokes are a pixel wide."
        ),
        differs=(
            "Made for super-resolution and used here on the input of a classifier. The box is that of the paper's "
            "code without its noise of 0.01 in the ratio; there the probability is 1."
        ),
        cost=1.01,
    )
    p: Annotated[float, Field(ge=0, le=1), Search(0.1, 1.0), NoOp(0)] = 0.5
    scale: Annotated[int, Field(ge=1, le=16), Search(2, 4), NoOp(1)] = 4
    ratio: Annotated[float, Field(gt=0, lt=1), Search(0.2, 0.9)] = 0.7

    def prepare(self, run: Run) -> None:
        """Refuse boxes without a pixel."""
        if not int(self.ratio * run.data.size):
            raise NoEffect(f"ratio = {self.ratio:g} makes boxes without a pixel of {run.data.size} a side")

    @at(BatchStage.NOISE)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a box per image and which of both sides of it is coarse."""
        x, (height, width) = batch.x, batch.x.shape[-2:]
        chosen, inverted, down, right = torch.rand(4, len(x), generator=run.rng(self.name), device=x.device)
        tall, broad = (int(self.ratio * side) for side in (height, width))
        top, left = (down * (height - tall + 1)).long(), (right * (width - broad + 1)).long()
        box = box_mask(top, left, torch.full_like(top, tall), torch.full_like(left, broad), (height, width))
        mask = (box ^ (inverted < 0.5).view(-1, 1, 1)) & (chosen < self.p).view(-1, 1, 1)
        return replace(batch, x=torch.where(mask[:, None], coarse(x, self.scale), x))
