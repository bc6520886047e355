"""Solarize: invert the bright pixels of some images."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.images import check_colour
from harness.tricks.operations import NEVER, solarize


class Solarize(Trick):
    """Grill et al. 2020, 2006.07733, appendix B (BYOL)."""

    info: ClassVar = Info(
        name="solarize",
        family="augment",
        summary="invert the bright pixels of some images",
        paper="Grill et al. 2020, arXiv:2006.07733, appendix B (p = 0.2 in one of two views)",
        formula="with probability p per image x = 1 - x where x >= threshold, for each channel by itself",
        expect=(
            "One part of contrastive recipes and of AutoAugment's policies; alone a strong change that large nets on "
            "photographs bear and small ones pay for. On bright strokes it leaves their outline."
        ),
        differs="Refused where a data set declares that its colours must stay, unless forced; in the paper for pairs.",
        cost=1.01,
    )
    p: Annotated[float, Field(ge=0, le=1), Search(0.05, 0.5), NoOp(0)] = 0.2
    threshold: Annotated[float, Field(ge=0, le=1), Search(0.25, 0.9)] = 0.5
    force: bool = False

    def prepare(self, run: Run) -> None:
        """Refuse images whose colours must stay."""
        check_colour("an inverted channel", run, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw which images are solarized."""
        u = torch.rand(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return replace(batch, x=solarize(batch.x, torch.where(u < self.p, self.threshold, NEVER)))
