"""ColOut: leave out random rows and columns, so that images are smaller."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, Run, Search, Trick, at
from harness.tricks.modules import check_forward


def kept(side: int, p: float) -> int:
    """How many lines stay of `side` when a share p is left out; at least one."""
    return max(1, int((1 - p) * side))


def lines(side: int, p: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """The lines that stay, in their order."""
    return torch.randperm(side, generator=generator, device=device)[: kept(side, p)].sort().values


class ColOut(Trick):
    """MosaicML Composer, ColOut."""

    info: ClassVar = Info(
        name="colout",
        family="augment",
        summary="leave out random rows and columns of each batch",
        paper="MosaicML 2021, Composer (ColOut); no paper",
        formula=(
            "floor((1 - p_row) H) rows and floor((1 - p_col) W) columns stay in their order, chosen at random for each "
            "batch; images are that much smaller"
        ),
        expect=(
            "Saves time in proportion to the pixels left out, and costs accuracy: 0.2 points of a ResNet-50 on "
            "ImageNet, about one on CIFAR-10 by its authors. Compare at equal time, too. A line of a tiny image is "
            "much of it."
        ),
        differs="Composer can also choose lines for each image, before batches are made; here it is by batch alone.",
        cost=0.75,
    )
    p_row: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.4)] = 0.15
    p_col: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.4)] = 0.15

    def prepare(self, run: Run) -> None:
        """Try the smaller size."""
        side = run.data.size
        height, width = kept(side, self.p_row), kept(side, self.p_col)
        if (height, width) == (side, side):
            raise NoEffect(
                f"p_row = {self.p_row:g} and p_col = {self.p_col:g} leave no line of {side} pixels a side out"
            )
        least = min(height, width)
        check_forward(run.model, run, least, f"images of {least} pixels a side")

    @at(BatchStage.NOISE)  # after every change of whole images
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the lines of this batch, and keep them."""
        height, width = batch.x.shape[-2:]
        generator, device = run.rng(self.name), batch.x.device
        rows, columns = (lines(height, self.p_row, generator, device), lines(width, self.p_col, generator, device))
        return replace(batch, x=batch.x.index_select(2, rows).index_select(3, columns))
