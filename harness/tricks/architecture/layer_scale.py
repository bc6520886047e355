"""Layer scale: each channel of a residual branch has a learned factor that starts small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.blocks import behind_branches
from harness.tricks.contract import Info, ModelStage, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class ChannelScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, channels: int, start: float, device: torch.device) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), start, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return x * self.scale.view(-1, 1, 1)


class LayerScale(Trick):
    """Touvron et al. 2021, 2103.17239, section 2."""

    info: ClassVar = Info(
        name="layer_scale",
        family="architecture",
        summary="learned factors on residual branches, which start small",
        paper="Touvron, Cord, Sablayrolles, Synnaeve, Jégou 2021, arXiv:2103.17239, section 2 (CaiT)",
        formula="x + diag(scale) F(x), every scale starts at `start`",
        expect=(
            "Lets deep transformers and ConvNeXt train. In shallow residual nets with batch normalisation, whose last "
            "scale can do the same, near nothing or a slower start, the more so the smaller `start` is."
        ),
        differs=(
            "For networks of residual blocks with norms, not transformers. start = 0.1 is the paper's for up to 18 "
            "layers; deeper ones have 1e-5 and 1e-6."
        ),
        excludes={"zero_gamma": "each sets the gain of residual branches at the start"},
    )
    start: Annotated[float, Field(gt=0), Search(1e-6, 0.5, log=True)] = 0.1

    @at(ModelStage.WRAP)  # behind gates
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put the factors behind every branch."""
        behind_branches(model, lambda channels: ChannelScale(channels, self.start, run.device))
        return model
