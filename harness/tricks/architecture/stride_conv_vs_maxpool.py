"""Downsampling by pooling in place of strided convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from torch import nn

from harness.tricks.blocks import pooled
from harness.tricks.contract import Choice, Info, ModelStage, Run, Trick, at
from harness.tricks.modules import replace_modules, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class StrideConvVsMaxpool(Trick):
    """Springenberg et al. 2014, 1412.6806, read backwards."""

    info: ClassVar = Info(
        name="stride_conv_vs_maxpool",
        family="architecture",
        kind="removal",
        summary="downsample by pooling, not by stride",
        paper="Springenberg, Dosovitskiy, Brox, Riedmiller 2014, arXiv:1412.6806",
        formula="conv(x, stride s) becomes conv(pool_s(x), stride 1) in residual blocks, with the same weights",
        expect=(
            "The paper's claim is that strided convolutions replace max-pooling without loss of accuracy, so the "
            "expected difference is nothing; a clear one is the surprise."
        ),
        differs=(
            "The paper's baseline pools and its arm strides. Our baseline strides, so the arm pools: branch and "
            "shortcut of every downsampling block, the stem left alone. The number of parameters is unchanged."
        ),
        excludes={
            "last_stride_1": "it removes the stride that this replaces",
            "repvgg_reparam": "pooling inside a branch cannot be folded into one convolution",
        },
    )
    down: Annotated[Literal["maxpool", "avgpool_conv"], Choice(("maxpool", "avgpool_conv"))] = "maxpool"

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace every strided convolution of every residual block."""
        pool = nn.MaxPool2d if self.down == "maxpool" else nn.AvgPool2d
        inside = {module for block in residual_blocks(model) for module in block.modules()}

        def strided(module: nn.Module) -> bool:
            return module in inside and isinstance(module, nn.Conv2d) and max(module.stride) > 1

        replace_modules(model, strided, lambda m: pooled(m, pool), "residual blocks with strided convolutions")
        return model
