"""Random resize: show each image larger or smaller, about its centre."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, Run, Search, Trick, at
from harness.tricks.images import affine, check_allowed, warp


def resize(x: Tensor, scale: Tensor) -> Tensor:
    """Scale each image by its factor (N,) about the centre, cropped or with black border to the old size."""
    zero = torch.zeros_like(scale)
    return warp(x, affine(zero, scale, zero, zero, zero))


class RandomResize(Trick):
    """Simonyan & Zisserman 2014, 1409.1556, section 3.1 (scale jittering)."""

    info: ClassVar = Info(
        name="random_resize",
        family="augment",
        summary="scale each image about its centre",
        paper="Simonyan, Zisserman 2014, arXiv:1409.1556, section 3.1",
        formula="x = x scaled by z ~ U(low, high) about the centre, per image; y unchanged",
        expect=(
            "Helps where objects vary in size, as in the paper (ImageNet, crops of 224 from sides of 256 to 512). "
            "Little for centred digits of one size; bilinear sampling blurs tiny images."
        ),
        differs=(
            "The paper crops at random places, this one keeps the centre and pads with black below scale 1. No "
            "antialiasing, which scales near 1 do not need. Refused if the border moves beyond the data set's shift, "
            "by itself: the recipe's own shift comes on top."
        ),
    )
    low: Annotated[float, Field(ge=0.5, le=1), Search(0.7, 1.0)] = 0.8
    high: Annotated[float, Field(ge=1, le=4), Search(1.0, 1.5)] = 1.2
    force: bool = False

    def prepare(self, run: Run) -> None:
        """Refuse scales that move the border too far, and those that do nothing."""
        if self.low == self.high:
            raise NoEffect("low = high = 1 leaves every image as it is")
        limit = 2 * run.data.invariances.shift
        check_allowed("1 - low", 1 - self.low, limit, self.force)
        check_allowed("high - 1", self.high - 1, limit, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a scale per image, and resample."""
        u = torch.rand(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return replace(batch, x=resize(batch.x, self.low + (self.high - self.low) * u))
