"""Gaussian noise on the pixels: vicinal risk with a Gaussian vicinity."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at


def add_noise(x: Tensor, noise: Tensor, sigma: float, clip: bool) -> Tensor:
    """X + sigma * noise, with the result clipped to [0, 1] on request."""
    noisy = x + sigma * noise
    return noisy.clamp(0, 1) if clip else noisy


class GaussianNoiseVrm(Trick):
    """Chapelle et al. 2000, section 2; an arm of Zhang et al. 2017, 1710.09412, table 5."""

    info: ClassVar = Info(
        name="gaussian_noise_vrm",
        family="augment",
        summary="add Gaussian noise to the pixels",
        paper="Chapelle, Weston, Bottou, Vapnik 2000, NIPS; as an arm in Zhang et al. 2017, arXiv:1710.09412",
        formula=("x = x + sigma n, n ~ N(0, 1) per pixel and channel, sigma in units of pixels in [0, 1]; y unchanged"),
        expect=(
            "Near nothing to harmful for clean accuracy of conv nets (the mixup paper's table), helps under "
            "noise at test time and very small training sets. In a linear model it is weight decay of "
            "strength sigma^2."
        ),
        differs=(
            "sigma is in pixel units, before normalisation. `clip` is an addition, off by default because "
            "it biases the mean of images with much black or white."
        ),
    )
    sigma: Annotated[float, Field(ge=0), Search(0.01, 0.3, log=True), NoOp(0)] = 0.05
    clip: Annotated[bool, Choice((False, True))] = False

    @at(BatchStage.NOISE)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the noise and add it."""
        noise = torch.randn(batch.x.shape, generator=run.rng(self.name), device=batch.x.device)
        return replace(batch, x=add_noise(batch.x, noise.to(batch.x.dtype), self.sigma, self.clip))
