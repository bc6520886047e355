"""ReZero: one learned factor for each residual branch, zero at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from harness.tricks.blocks import behind_branches
from harness.tricks.contract import Info, ModelStage, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Gain(nn.Module):
    """One learned factor, zero at the start."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros((), device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return x * self.gain


class Rezero(Trick):
    """Bachlechner et al. 2020, 2003.04887, section 3."""

    info: ClassVar = Info(
        name="rezero",
        family="architecture",
        summary="one learned factor on each residual branch, which starts at zero",
        paper="Bachlechner, Majumder, Mao, Cottrell, McAuley 2020, arXiv:2003.04887, section 3",
        formula="x + a F(x), one a for each block, a = 0 at the start",
        expect=(
            "Speeds up the first epochs of very deep nets, which begin as the identity. In shallow ones the branches "
            "lose time until their factors have grown: nothing or a loss in short training."
        ),
        differs=(
            "Norms stay, as in the paper's residual nets on CIFAR-10. Shortcuts with a convolution stay, so blocks "
            "that change the shape start as that. The recipe's weight decay acts on the factors, too."
        ),
        excludes={
            "layer_scale": "each sets the gain of residual branches at the start",
            "skip_connection": "a branch of zero without a shortcut lets nothing through",
            "zero_gamma": "with two factors of zero no branch has a gradient",
        },
    )

    @at(ModelStage.WRAP)  # behind gates
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put a factor behind every branch."""
        behind_branches(model, lambda _channels: Gain(run.device))
        return model
