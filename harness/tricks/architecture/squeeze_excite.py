"""Squeeze and excitation: each channel of a residual branch is gated by what all channels are on the whole map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.blocks import behind_branches
from harness.tricks.contract import Choice, Info, ModelStage, Run, Trick, at
from harness.tricks.modules import drawn_linear

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

LEAST = 8
"""Hidden units at least, as in timm."""


class SqueezeExcitation(nn.Module):
    """x sigmoid(W2 relu(W1 mean(x))) for each channel."""

    def __init__(self, channels: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.reduce = drawn_linear(channels, hidden, generator)
        self.expand = drawn_linear(hidden, channels, generator)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        gate: Tensor = self.expand(self.reduce(x.mean((-2, -1))).relu()).sigmoid()
        return x * gate[..., None, None]


class SqueezeExcite(Trick):
    """Hu, Shen, Albanie, Sun & Wu 2017, 1709.01507, section 3."""

    info: ClassVar = Info(
        name="squeeze_excite",
        family="architecture",
        summary="gate the channels of residual branches by the mean of the map",
        paper="Hu, Shen, Albanie, Sun, Wu 2017, arXiv:1709.01507, section 3",
        formula="F(x) sigmoid(W2 relu(W1 mean F(x))), W1 of max(8, C / reduction) rows, in every residual block",
        expect=(
            "Gains some tenths to 1.5 points on ImageNet with deep nets, for hardly more operations but more time. Few "
            "wide layers and small maps leave it little to do; gates near 1/2 halve the branches at the start."
        ),
        differs=(
            "At least 8 hidden units, as in timm, since a sixteenth of thin layers would be one. Weights are drawn "
            "with torch's own distribution."
        ),
        cost=1.05,
    )
    reduction: Annotated[int, Field(ge=1), Choice((2, 4, 8, 16))] = 16

    @at(ModelStage.GATE)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Gate every branch."""

        def build(channels: int) -> nn.Module:
            return SqueezeExcitation(channels, max(LEAST, channels // self.reduction), run.rng(self.name))

        behind_branches(model, build)
        return model
