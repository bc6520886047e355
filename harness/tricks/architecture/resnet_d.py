"""The shortcut of ResNet-D: average pooling in place of a stride that skips three pixels of four."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.contract import Info, ModelStage, Run, Trick, at
from harness.tricks.modules import replace_modules, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def averaged(conv: nn.Module) -> nn.Sequential:
    """Means over windows of the convolution's stride, then the convolution without it; the output size is equal."""
    assert isinstance(conv, nn.Conv2d)
    stride, conv.stride = (conv.stride[0], conv.stride[1]), (1, 1)
    return nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), conv)


class ResnetD(Trick):
    """He et al. 2018, 1812.01187, section 4.1."""

    info: ClassVar = Info(
        name="resnet_d",
        family="architecture",
        summary="average pooling before the 1x1 convolution of shortcuts that downsample",
        paper="He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv:1812.01187, section 4.1",
        formula="shortcut conv1x1(x, stride s) becomes conv1x1(avgpool_s(x), stride 1), with the same weights",
        expect=(
            "A 1x1 convolution of stride 2 ignores three quarters of its input. The paper gains 0.3 points on ImageNet "
            "with ResNet-50; in small nets, whose branches see all pixels, expect a few tenths or nothing."
        ),
        differs="nothing: the tweak alone, without resnet_b and resnet_c, which the paper adds before it",
        cost=1.02,
        excludes={"stride_conv_vs_maxpool": "it pools in the same place"},
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace every strided 1x1 convolution of a shortcut."""
        shortcuts = [getattr(b, "shortcut", None) or getattr(b, "downsample", None) for b in residual_blocks(model)]
        inside = {m for shortcut in shortcuts if isinstance(shortcut, nn.Module) for m in shortcut.modules()}

        def strided(module: nn.Module) -> bool:
            return module in inside and isinstance(module, nn.Conv2d) and max(module.stride) > 1

        replace_modules(model, strided, averaged, "shortcuts with strided convolutions")
        return model
