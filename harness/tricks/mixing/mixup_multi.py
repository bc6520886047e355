"""Mixup of more than two images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at


def combine(a: Tensor, partners: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """weights[0] a + sum_k weights[k] a[partners[k - 1]], along the first axis."""
    mixed = weights[0] * a
    for partner, weight in zip(partners, weights[1:], strict=True):
        mixed = mixed + weight * a[partner]
    return mixed


class MixupMulti(Trick):
    """Zhang et al. 2017, 1710.09412, section 2, the remark on three and more examples."""

    info: ClassVar = Info(
        name="mixup_multi",
        family="mixing",
        summary="mixup of m images with Dirichlet weights",
        paper="Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 2",
        formula=(
            "x = sum_k w_k x_k, y = sum_k w_k y_k over m images, the first the batch's own and the others by random "
            "permutations, w ~ Dirichlet(alpha, ..., alpha) per batch; m = 2 has mixup's law"
        ),
        expect="The paper found no further gain beyond pairs, at a higher cost. Underfits small nets sooner.",
        cost=1.01,
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0
    m: Annotated[int, Field(ge=2, le=8), Search(2, 4)] = 3

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw weights and partners, and mix."""
        weights = run.numpy(self.name).dirichlet([self.alpha] * self.m).tolist()
        device, generator = batch.x.device, run.rng(self.name)
        partners = [torch.randperm(len(batch.x), generator=generator, device=device) for _ in range(self.m - 1)]
        return replace(batch, x=combine(batch.x, partners, weights), y=combine(batch.y, partners, weights))
