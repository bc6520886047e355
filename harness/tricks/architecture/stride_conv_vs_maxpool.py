"""Downsampling by pooling in place of strided convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from torch import nn

from harness.tricks.contract import Choice, Info, ModelStage, Run, Trick, at
from harness.tricks.modules import replace_modules, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def pooled(conv: nn.Module, down: str) -> nn.Sequential:
    """The same convolution without its stride, and pooling by that; the output size is equal.

    maxpool: after the convolution, in windows that overlap, 3 wide for a stride of 2. avgpool_conv: before it, in
    windows of the stride.
    """
    assert isinstance(conv, nn.Conv2d)
    stride, conv.stride = (conv.stride[0], conv.stride[1]), (1, 1)
    if down == "avgpool_conv":
        return nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), conv)
    padding = (stride[0] // 2, stride[1] // 2)
    return nn.Sequential(conv, nn.MaxPool2d((2 * padding[0] + 1, 2 * padding[1] + 1), stride, padding))


class StrideConvVsMaxpool(Trick):
    """Springenberg et al. 2014, 1412.6806, read backwards."""

    info: ClassVar = Info(
        name="stride_conv_vs_maxpool",
        family="architecture",
        kind="removal",
        summary="downsample by pooling, not by stride",
        paper="Springenberg, Dosovitskiy, Brox, Riedmiller 2014, arXiv:1412.6806",
        formula=(
            "conv(x, stride 2) becomes max over 3 x 3 of conv(x, stride 1), every second one, in residual blocks, with "
            "the same weights"
        ),
        expect=(
            "The paper's claim is that strided convolutions replace max-pooling without loss of accuracy, so the "
            "expected difference is nothing; a clear one is the surprise."
        ),
        differs=(
            "The paper's baseline pools, 3 x 3 with stride 2 after a convolution, and its Strided-CNN strides in that "
            "convolution. Our baseline strides, so the arm pools: branch and shortcut of every downsampling block, the "
            "stem left alone, before the block's norm, which the paper does not have. The number of parameters is "
            "unchanged. `avgpool_conv` is an addition: mean over 2 x 2 before the convolution, as ResNet-D's shortcut."
        ),
        cost=1.3,
        version=2,
        excludes={
            "last_stride_1": "it removes the stride that this replaces",
            "repvgg_reparam": "pooling inside a branch cannot be folded into one convolution",
        },
    )
    down: Annotated[Literal["maxpool", "avgpool_conv"], Choice(("maxpool", "avgpool_conv"))] = "maxpool"

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace every strided convolution of every residual block."""
        inside = {module for block in residual_blocks(model) for module in block.modules()}

        def strided(module: nn.Module) -> bool:
            return module in inside and isinstance(module, nn.Conv2d) and max(module.stride) > 1

        replace_modules(model, strided, lambda m: pooled(m, self.down), "residual blocks with strided convolutions")
        return model
