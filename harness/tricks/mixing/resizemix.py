"""ResizeMix: paste another image whole, made small, and mix the targets by area."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import mix


def resizemix(batch: Batch, partner: Tensor, scale: float, down: float, right: float) -> Batch:
    """Paste `partner`'s images (a permutation, (N,)) at `scale` of each side; y mixes by the share of pixels.

    `down` and `right`, in [0, 1), are the shares of the free rows and columns that lie before the pasted image.
    """
    sides = batch.x.shape[-2:]
    height, width = (max(1, round(scale * side)) for side in sides)
    top, left = (
        int(u * (side - part + 1)) for u, side, part in zip((down, right), sides, (height, width), strict=True)
    )
    x = batch.x.clone()
    x[..., top : top + height, left : left + width] = F.interpolate(
        batch.x, (height, width), mode="bilinear", antialias=True
    )[partner]
    return replace(batch, x=x, y=mix(batch.y, partner, 1 - height * width / (sides[0] * sides[1])))


class ResizeMix(Trick):
    """Qin et al. 2020, 2012.11101, section 3."""

    info: ClassVar = Info(
        name="resizemix",
        family="mixing",
        summary="paste another image whole, made small; targets by area",
        paper="Qin, Fang, Zhang, Liu, Wang, Wang 2020, arXiv:2012.11101, section 3",
        formula=(
            "x_j, j a random permutation, is resized to t of each side, t ~ U(low, high), and pasted at a random "
            "place; y = (1 - s) y_i + s y_j, s the share of pixels that it covers"
        ),
        expect=(
            "What is pasted is always a whole object, unlike CutMix's box, so that its target is right; level with "
            "CutMix in OpenMixup's table of CIFAR-100. Small copies of tiny images hold few pixels."
        ),
        differs=(
            "One scale and place for the batch, with a probability `prob` that it is mixed, which the paper does not "
            "have. Resized with antialiasing. OpenMixup swaps height and width, which squares do not show."
        ),
        cost=1.01,
    )
    low: Annotated[float, Field(gt=0, le=1), Search(0.1, 0.5)] = 0.1
    high: Annotated[float, Field(gt=0, le=1), Search(0.5, 1.0)] = 0.8
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> ResizeMix:
        if self.low > self.high:
            raise ValueError(f"low = {self.low:g} exceeds high = {self.high:g}")
        return self

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the scale, the place and the partners, and paste."""
        host = run.numpy(self.name)
        mixes, u, down, right = (float(v) for v in host.random(4))
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        if mixes >= self.prob:
            return batch
        return resizemix(batch, partner, self.low + (self.high - self.low) * u, down, right)
