"""The stem of ResNet-C: three small convolutions in place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.blocks import drawn_conv, stem_convolution
from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class ResnetC(Trick):
    """He et al. 2018, 1812.01187, section 4.1."""

    info: ClassVar = Info(
        name="resnet_c",
        family="architecture",
        summary="three 3x3 convolutions in the stem",
        paper="He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv:1812.01187, section 4.1; Szegedy et al. 2015, 1512.00567",
        formula="the first convolution becomes conv3x3(w/2) - norm - relu - conv3x3(w/2) - norm - relu - conv3x3(w)",
        expect=(
            "In place of a 7x7 convolution on ImageNet it is cheaper and gains 0.2 points. Networks for small images "
            "have a single 3x3 there: the arm adds two layers at full resolution, for time and perhaps a little."
        ),
        differs=(
            "The first of the three has the stride of what it replaces, 2 in the paper. Norms are batch norms, weights "
            "He-normal as the baseline's."
        ),
        cost=1.2,
        excludes={
            "patchify_stem": "each replaces the first convolution",
            "small_image_stem": "each replaces the first convolution",
        },
    )

    @at(ModelStage.STEM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace the first convolution."""
        path, conv = stem_convolution(model)
        width, half = conv.out_channels, conv.out_channels // 2
        if not half:
            raise NoEffect("the first convolution has one channel, of which there is no half")
        layers: list[nn.Module] = [drawn_conv(conv.in_channels, half, 3, run, self.name, conv.stride[0], padding=1)]
        for out in (half, width):
            layers += [nn.BatchNorm2d(half, device=run.device), nn.ReLU()]
            layers += [drawn_conv(half, out, 3, run, self.name, padding=1)]
        model.net.set_submodule(path, nn.Sequential(*layers))
        return model
