"""Hide-and-Seek: hide each cell of a grid with some probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, NotApplicable, Run, Search, Trick, at
from harness.tricks.functional import table
from harness.tricks.images import cells


class HideAndSeek(Trick):
    """Singh & Lee 2017, 1704.04232, section 3."""

    info: ClassVar = Info(
        name="hide_and_seek",
        family="augment",
        summary="hide each cell of a grid with some probability",
        paper="Singh, Lee 2017, arXiv:1704.04232, section 3; Singh, Yu, Sarmasi, Pradeep, Lee 2018, arXiv:1811.02545",
        formula=(
            "the image is divided into grid x grid cells; each is filled with the mean colour with probability p, "
            "drawn for each image and cell; y unchanged"
        ),
        expect=(
            "Made so that a net looks at more than the most telling part, to find whole objects; of a ResNet-50 on "
            "ImageNet in 300 epochs PaddleClas reports 0.1 points. Half of a digit's cells hide what tells its class."
        ),
        differs=(
            "One grid, where the paper draws its size from several, no grid among them. `fill = 'black'` is an "
            "addition."
        ),
        cost=1.01,
    )
    grid: Annotated[int, Field(ge=1, le=64), Search(2, 8)] = 4
    p: Annotated[float, Field(ge=0, le=1), Search(0.1, 0.6), NoOp(0)] = 0.5
    fill: Annotated[Literal["mean", "black"], Choice(("mean", "black"))] = "mean"

    def prepare(self, run: Run) -> None:
        """Refuse cells smaller than a pixel."""
        if self.grid > run.data.size:
            raise NotApplicable(f"grid = {self.grid} is more cells than the {run.data.size} pixels of a side")

    @at(BatchStage.NOISE)  # after every geometric change of the stage AUGMENT
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw which cells of each image are hidden, and fill them."""
        x, size = batch.x, (batch.x.shape[-2], batch.x.shape[-1])
        u = torch.rand(len(x), self.grid, self.grid, generator=run.rng(self.name), device=x.device)
        fill = table(run.data.mean if self.fill == "mean" else (0.0,) * run.data.channels, x)
        return replace(batch, x=torch.where(cells(u < self.p, size)[:, None], fill.view(1, -1, 1, 1), x))
