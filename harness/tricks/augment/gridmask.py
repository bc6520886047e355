"""GridMask: hide a regular grid of squares of each image."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import table


def grid(size: tuple[int, int], unit: Tensor, hidden: float, down: Tensor, right: Tensor) -> Tensor:
    """True in squares that hide a share `hidden` of each side of every unit, (N, H, W).

    Units are squares of `unit` pixels (N,); their corners lie `down` and `right` pixels (N,) before the image's.
    """

    def stripes(side: int, offset: Tensor) -> Tensor:
        place = torch.arange(side, device=unit.device) + offset[:, None]
        return place.remainder(unit[:, None]) < hidden * unit[:, None]

    return stripes(size[0], down)[:, :, None] & stripes(size[1], right)[:, None, :]


class GridMask(Trick):
    """Chen et al. 2020, 2001.04086, section 3."""

    info: ClassVar = Info(
        name="gridmask",
        family="augment",
        summary="hide a regular grid of squares of each image",
        paper="Chen, Liu, Zhao, Jia 2020, arXiv:2001.04086, section 3",
        formula=(
            "with probability prob x = fill inside squares of side (1 - ratio) d, one in each unit of a grid of side "
            "d ~ U(d_min, d_max) times the image's, at a random offset; a share 1 - (1 - ratio)^2 of the pixels stays. "
            "prob grows linearly from 0 over the first `ramp` of training"
        ),
        expect=(
            "Helps large nets on photographs in long training, about as cutout: of a ResNet-50 on ImageNet in 300 "
            "epochs PaddleClas reports 0.5 points, and 0.7 with cutout. Hides strokes of digits, whose class a few "
            "pixels decide."
        ),
        differs=(
            "d is a share of the side, 96 to 224 pixels of 224 by default, and no whole number; the mask is not "
            "turned. `fill = 'black'` is an addition; the paper's zeros after normalisation are the mean colour."
        ),
        cost=1.01,
    )
    prob: Annotated[float, Field(ge=0, le=1), Search(0.2, 1.0), NoOp(0)] = 0.8
    ratio: Annotated[float, Field(ge=0, le=1), Search(0.4, 0.8), NoOp(1)] = 0.6
    d_min: Annotated[float, Field(gt=0, le=1), Search(0.2, 0.9)] = 0.43
    d_max: Annotated[float, Field(gt=0, le=1), Search(0.5, 1.0)] = 1.0
    ramp: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.8
    fill: Annotated[Literal["mean", "black"], Choice(("mean", "black"))] = "mean"

    @model_validator(mode="after")
    def _ordered(self) -> GridMask:
        if self.d_min > self.d_max:
            raise ValueError(f"d_min = {self.d_min:g} exceeds d_max = {self.d_max:g}")
        return self

    def chance(self, progress: float) -> float:
        """The probability of a mask at a fraction of training."""
        return self.prob * min(1.0, progress / self.ramp) if self.ramp else self.prob

    @at(BatchStage.NOISE)  # after every geometric change of the stage AUGMENT
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a grid per image, and fill its squares."""
        n, _, height, width = batch.x.shape
        chosen, u, down, right = torch.rand(4, n, generator=run.rng(self.name), device=batch.x.device)
        unit = (self.d_min + (self.d_max - self.d_min) * u) * height
        mask = grid((height, width), unit, 1 - self.ratio, down * unit, right * unit)
        mask = mask & (chosen < self.chance(run.progress)).view(-1, 1, 1)
        fill = table(run.data.mean if self.fill == "mean" else (0.0,) * run.data.channels, batch.x)
        return replace(batch, x=torch.where(mask[:, None], fill.view(1, -1, 1, 1), batch.x))
