"""Residual blocks without their shortcuts: the plain net."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, Run, Trick, at
from harness.tricks.modules import residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class NoShortcut(nn.Module):
    """Nothing to add."""

    def forward(self, x: Tensor) -> Tensor:
        """Zero, as a scalar that is added to any shape."""
        return x.new_zeros(())


class SkipConnection(Trick):
    """He et al. 2015, 1512.03385: what the shortcuts are worth."""

    info: ClassVar = Info(
        name="skip_connection",
        family="architecture",
        kind="removal",
        summary="remove the shortcuts of residual blocks",
        paper="He, Zhang, Ren, Sun 2015, arXiv:1512.03385",
        formula="a block computes act(F(x)) in place of act(F(x) + shortcut(x))",
        expect=(
            "The baseline has the shortcuts, so this is the negative arm. In the paper plain nets of 20 layers "
            "lose a little and those of 56 layers fail to train as well: the loss grows with depth. At a few "
            "layers the difference may be nothing."
        ),
        differs="The baseline is the paper's method. Shortcuts with 1x1 convolutions go, with their parameters.",
        cost=0.95,
        excludes={
            "zero_gamma": "a branch of zero without a shortcut lets nothing through",
        },
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Cut every shortcut."""
        for block in residual_blocks(model):
            setattr(block, "shortcut" if hasattr(block, "shortcut") else "downsample", NoShortcut())
        return model
