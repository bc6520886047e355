"""SmoothMix: mix two images by a round mask with a soft edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import mix


def bump(center: Tensor, sigma: Tensor, size: tuple[int, int]) -> Tensor:
    """A Gaussian of height one and deviation `sigma` pixels (N,) around `center` (N, 2), row and column: (N, H, W)."""
    down, along = (
        torch.exp(-((torch.arange(side, device=sigma.device) - center[:, k, None]) ** 2) / (2 * sigma[:, None] ** 2))
        for k, side in enumerate(size)
    )
    return down[:, :, None] * along[:, None, :]


class SmoothMix(Trick):
    """Lee et al. 2020, CVPR workshops, section 3."""

    info: ClassVar = Info(
        name="smoothmix",
        family="mixing",
        summary="mix two images by a round mask with a soft edge",
        paper="Lee, Zaheer, Astrid, Lee 2020, CVPR workshops (SmoothMix), section 3",
        formula=(
            "G = exp(-d^2 / (2 s^2)), d the distance from a random pixel, s ~ U(low, high) times the side; "
            "x = (1 - G) x_i + G x_j, j a random permutation; y mixes by the mean of G"
        ),
        expect=(
            "No hard edge for a net to learn, which is said to help against corruptions; below CutMix in OpenMixup's "
            "tables for CIFAR-100 and above it for Tiny-ImageNet."
        ),
        differs=(
            "The round mask of the paper's two kinds, drawn for each image rather than for the batch; `prob`, 0.5 for "
            "CIFAR there, is 1 here."
        ),
        cost=1.01,
    )
    low: Annotated[float, Field(gt=0, le=1), Search(0.05, 0.4)] = 0.25
    high: Annotated[float, Field(gt=0, le=1), Search(0.3, 1.0)] = 0.5
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> SmoothMix:
        if self.low > self.high:
            raise ValueError(f"low = {self.low:g} exceeds high = {self.high:g}")
        return self

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a mask for each image and the partners, and mix."""
        generator, x, n = run.rng(self.name), batch.x, len(batch.x)
        height, width = x.shape[-2:]
        skip = run.numpy(self.name).random() >= self.prob
        partner = torch.randperm(n, generator=generator, device=x.device)
        u = torch.rand(n, 3, generator=generator, device=x.device)
        if skip:
            return batch
        center = torch.stack((u[:, 0] * height, u[:, 1] * width), 1).floor()
        mask = bump(center, (self.low + (self.high - self.low) * u[:, 2]) * width, (height, width)).to(x.dtype)
        mixed = x + mask[:, None] * (x[partner] - x)
        return replace(batch, x=mixed, y=mix(batch.y, partner, 1 - mask.mean((1, 2))))
