"""GridMix: take some cells of a grid from another image, and mix the targets by area."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, NotApplicable, Run, Search, Trick, at
from harness.tricks.images import cells
from harness.tricks.mixtures import masked


def smallest(scores: Tensor, count: int) -> Tensor:
    """True at the `count` smallest scores (N, g, g) of each image."""
    return (scores.flatten(1).argsort(1).argsort(1) < count).view(scores.shape)


class GridMix(Trick):
    """Baek et al. 2021, Pattern Recognition 109, section 3.1."""

    info: ClassVar = Info(
        name="gridmix",
        family="mixing",
        summary="take some cells of a grid from another image",
        paper="Baek, Bang, Shim 2021, Pattern Recognition 109, 107594, section 3.1",
        formula=(
            "w ~ Beta(alpha, alpha); round((1 - w) grid^2) cells of a grid x grid division, drawn for each image, come "
            "from x_j, j a random permutation; y mixes by the share of pixels that stay"
        ),
        expect=(
            "Local parts of both images stay all over the frame, where CutMix keeps one box; near CutMix in "
            "OpenMixup's tables. Small cells cut what defines a class on tiny images."
        ),
        differs=(
            "The mixture alone, without the paper's second loss, by which a second head names the class of each cell. "
            "The area is that of whole cells. OpenMixup's GridMix of the same name cuts a box with holes."
        ),
        cost=1.01,
    )
    grid: Annotated[int, Field(ge=2, le=64), Search(2, 8)] = 4
    alpha: Annotated[float, Field(gt=0), Search(0.1, 4.0, log=True)] = 1.0
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Refuse cells smaller than a pixel."""
        if self.grid > run.data.size:
            raise NotApplicable(f"grid = {self.grid} is more cells than the {run.data.size} pixels of a side")

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the area, the cells and the partners, and mix."""
        host, generator, device, n = run.numpy(self.name), run.rng(self.name), batch.x.device, len(batch.x)
        keep, skip = float(host.beta(self.alpha, self.alpha)), host.random() >= self.prob
        scores = torch.rand(n, self.grid, self.grid, generator=generator, device=device)
        partner = torch.randperm(n, generator=generator, device=device)
        if skip:
            return batch
        size = (batch.x.shape[-2], batch.x.shape[-1])
        return masked(batch, partner, cells(smallest(scores, round((1 - keep) * self.grid**2)), size))
