"""Deep residual shrinkage: residual branches are soft-thresholded, with a learned threshold for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.blocks import behind_branches
from harness.tricks.contract import Choice, Info, ModelStage, NotApplicable, Run, Trick, at
from harness.tricks.modules import drawn_linear

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def soft_threshold(x: Tensor, tau: Tensor) -> Tensor:
    """Shrink x (N, C, H, W) towards zero by tau (N, C) or (N, 1): sign(x) max(|x| - tau, 0)."""
    return x.sign() * (x.abs() - tau[..., None, None]).relu()


class Shrinkage(nn.Module):
    """Soft threshold tau = a m, with m = mean |x| over the map and a = sigmoid(MLP(m)) in (0, 1).

    With `shared`, m and a are one number for all channels of an image, else one for each channel.
    """

    def __init__(self, channels: int, hidden: int, shared: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.shared = shared
        self.mlp = nn.Sequential(
            drawn_linear(channels, hidden, generator),
            nn.BatchNorm1d(hidden, device=generator.device),
            nn.ReLU(),
            drawn_linear(hidden, 1 if shared else channels, generator),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        m = x.abs().mean((-2, -1))
        tau = self.mlp(m) * (m.mean(1, keepdim=True) if self.shared else m)
        return soft_threshold(x, tau)


class ShrinkageBlock(Trick):
    """Zhao et al. 2020, IEEE Trans. Industrial Informatics 16(7), 10.1109/TII.2019.2943898."""

    info: ClassVar = Info(
        name="shrinkage_block",
        family="architecture",
        summary="soft-threshold residual branches with learned thresholds",
        paper=(
            "Zhao, Zhong, Fu, Tang, Pecht 2020, IEEE Transactions on Industrial Informatics 16(7), "
            "doi:10.1109/TII.2019.2943898"
        ),
        formula=(
            "residual branch F becomes sign(F) max(|F| - tau, 0), tau = sigmoid(MLP(m)) m, m = mean |F| over the "
            "map, per channel (CW) or shared by the channels (CS)"
        ),
        expect=(
            "The paper finds gains on vibration signals that grow with the noise added to them. Compare under "
            "noise; on clean images expect little, at the price of a small net in every block."
        ),
        differs=(
            "The branch ends in a norm, as in the baseline's blocks, where the paper's ends in a convolution; "
            "the hidden width is channels / reduction."
        ),
        cost=1.15,
        excludes={"zero_gamma": "soft thresholds have no gradient at a branch of zero"},
    )
    variant: Annotated[Literal["CS", "CW"], Choice(("CS", "CW"))] = "CW"
    reduction: Annotated[int, Field(ge=1), Choice((1, 2, 4, 8, 16))] = 1

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put a threshold behind the last norm of every residual branch."""
        if run.recipe.batch_size < 2:
            raise NotApplicable("the threshold's batch norm needs batches of at least two images")

        def build(channels: int) -> nn.Module:
            return Shrinkage(channels, max(1, channels // self.reduction), self.variant == "CS", run.rng(self.name))

        behind_branches(model, build)
        return model
