"""Grayscale: take the colour out of some images."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.images import check_colour
from harness.tricks.operations import gray, wide


class Grayscale(Trick):
    """Chen et al. 2020, 2002.05709, appendix A (SimCLR)."""

    info: ClassVar = Info(
        name="grayscale",
        family="augment",
        summary="take the colour out of some images",
        paper="Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709, appendix A (p = 0.2)",
        formula="with probability p per image all channels are 0.299 R + 0.587 G + 0.114 B",
        expect=(
            "Made for contrastive training; in supervised training it guards against a net that reads the class off "
            "the colour, and costs where colour tells it."
        ),
        differs="Refused where a data set declares that its colours must stay, unless forced; in the paper for pairs.",
        cost=1.01,
    )
    p: Annotated[float, Field(ge=0, le=1), Search(0.05, 0.5), NoOp(0)] = 0.2
    force: bool = False

    def prepare(self, run: Run) -> None:
        """Refuse images without colour, and those whose colour is their class."""
        if run.data.channels != 3:
            raise NoEffect(f"{run.spec.data.name} has {run.data.channels} channel(s), and so no colour to take out")
        check_colour("a grey image", run, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw which images lose their colour."""
        chosen = torch.rand(len(batch.x), generator=run.rng(self.name), device=batch.x.device) < self.p
        return replace(batch, x=torch.where(wide(chosen), gray(batch.x), batch.x))
