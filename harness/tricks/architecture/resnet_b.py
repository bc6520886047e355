"""The downsampling block of ResNet-B: the stride lies in the block's second convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Trick, at
from harness.tricks.modules import residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def strided_first(block: nn.Module) -> bool:
    """Whether the block's first convolution has a stride that its second one could have."""
    first, second = getattr(block, "conv1", None), getattr(block, "conv2", None)
    if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)):
        return False
    return max(first.stride) > 1 == max(second.stride)


class ResnetB(Trick):
    """He et al. 2018, 1812.01187, section 4.1; first in torch's ResNets (Gross and Wilber 2016)."""

    info: ClassVar = Info(
        name="resnet_b",
        family="architecture",
        summary="the stride of downsampling blocks in their second convolution",
        paper="He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv:1812.01187, section 4.1",
        formula="conv1(stride s), conv2(stride 1) become conv1(stride 1), conv2(stride s), with the same weights",
        expect=(
            "In a bottleneck the first convolution is 1x1 and with a stride ignores three quarters of its input; the "
            "paper gains 0.5 points on ImageNet with ResNet-50. In blocks of two 3x3 convolutions no pixel is ignored "
            "either way: perhaps a little for computing more at the larger size."
        ),
        differs=(
            "The paper has bottlenecks only. In blocks of two 3x3 convolutions the same two strides are switched, "
            "where GluonCV's ResNet-18-B leaves them. Bottlenecks of timm and torchvision have it already."
        ),
        cost=1.15,
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Switch the strides of the first two convolutions of every block that has one in the first."""
        found = [block for block in residual_blocks(model) if strided_first(block)]
        if not found:
            raise NoEffect("needs blocks whose first convolution has the stride, and the model has none")
        for block in found:
            first, second = block.conv1, block.conv2
            assert isinstance(first, nn.Conv2d)
            assert isinstance(second, nn.Conv2d)
            first.stride, second.stride = second.stride, first.stride
        return model
