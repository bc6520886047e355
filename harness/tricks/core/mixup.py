"""Mixup: train on convex combinations of pairs of images and of their targets."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at
from harness.tricks.mixtures import mixup


class Mixup(Trick):
    """Zhang et al. 2017, 1710.09412, section 2."""

    info: ClassVar = Info(
        name="mixup",
        family="core",
        summary="mix pairs of images and their targets",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412",
        formula="x = w x_i + (1 - w) x_j, y = w y_i + (1 - w) y_j, w ~ Beta(alpha, alpha), j a random permutation",
        expect=(
            "Helps nets that overfit, noisy labels and long training; larger alpha regularises more and underfits "
            "small nets or short runs. Training accuracy is meaningless under it."
        ),
        differs="`per = 'elem'` and `prob` are additions; the defaults are the paper's: one weight, every batch",
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0
    per: Annotated[Literal["batch", "elem"], Choice(("batch", "elem"))] = "batch"
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 1.0

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw weights and partners, and mix."""
        host, n = run.numpy(self.name), len(batch.x)
        weights = host.beta(self.alpha, self.alpha, 1 if self.per == "batch" else n)
        skip = host.random() >= self.prob
        partner = torch.randperm(n, generator=run.rng(self.name), device=batch.x.device)
        if skip:
            return batch
        weight = float(weights[0]) if self.per == "batch" else torch.from_numpy(weights).to(batch.x.device)
        return mixup(batch, partner, weight)
