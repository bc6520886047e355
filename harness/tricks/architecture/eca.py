"""Efficient channel attention: each channel is gated by its neighbours' means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.blocks import behind_branches
from harness.tricks.contract import Choice, Info, ModelStage, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def kernel_size(channels: int) -> int:
    """The odd number at or above log2(C) / 2 + 1 / 2, rounded down (equation 12 with gamma = 2, b = 1), at least 3."""
    k = int(abs(math.log2(channels) / 2 + 0.5))
    return max(3, k if k % 2 else k + 1)


class ChannelAttention(nn.Module):
    """x sigmoid(k * mean(x)): a convolution along the channels, without bias, padded with zeros."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        draw = torch.rand(1, 1, size, generator=generator, device=generator.device)
        self.kernel = nn.Parameter((2 * draw - 1) / size**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        gate = F.conv1d(x.mean((-2, -1))[:, None], self.kernel, padding=self.kernel.shape[-1] // 2)[:, 0]
        return x * gate.sigmoid()[..., None, None]


class Eca(Trick):
    """Wang et al. 2019, 1910.03151, section 3."""

    info: ClassVar = Info(
        name="eca",
        family="architecture",
        summary="gate channels by the means of a few channels beside them",
        paper="Wang, Wu, Zhu, Li, Zuo, Hu 2019, arXiv:1910.03151, section 3 (ECA-Net)",
        formula="F(x) sigmoid(conv1d_k(mean F(x))) along the channels; k odd, near (log2 C + 1) / 2, at least 3",
        expect=(
            "As squeeze_excite with a handful of weights in place of two matrices: in the paper as good or better by "
            "tenths of a point on ImageNet. Little to expect of thin layers and small maps."
        ),
        differs="k is at least 3, as in timm. Weights are drawn with torch's own distribution",
        cost=1.05,
    )
    k: Annotated[
        int | None, Field(ge=1, description="odd; by the number of channels when left out"), Choice((None, 3, 5, 7))
    ] = None

    @field_validator("k")
    @classmethod
    def _odd(cls, k: int | None) -> int | None:
        if k is not None and k % 2 == 0:
            raise ValueError(f"k = {k} is even, and the channel itself lies in the middle of an odd number")
        return k

    @at(ModelStage.GATE)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Gate every branch."""
        behind_branches(model, lambda channels: ChannelAttention(self.k or kernel_size(channels), run.rng(self.name)))
        return model
