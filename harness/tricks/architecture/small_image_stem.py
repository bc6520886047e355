"""A stem for small images: a 3x3 convolution that keeps the size, and no pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.blocks import drawn_conv, stem_convolution
from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class SmallImageStem(Trick):
    """He et al. 2015, 1512.03385, section 4.2."""

    info: ClassVar = Info(
        name="small_image_stem",
        family="architecture",
        summary="a 3x3 stem of stride one without pooling, in networks for large images",
        paper="He, Zhang, Ren, Sun 2015, arXiv:1512.03385, section 4.2",
        formula="conv7x7 of stride 2 and max-pooling become conv3x3 of stride 1",
        expect=(
            "On images of 32 pixels several points and more time, by far: the usual stem leaves the last stage a "
            "single pixel. The program's own networks have it, so there it is refused."
        ),
        differs="The new convolution is drawn He-normal (fan out), as the baseline's of the program's own networks are",
        cost=4.0,
    )

    @at(ModelStage.STEM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace the first convolution, and take the max-pooling away."""
        path, conv = stem_convolution(model)
        pools = [name for name, m in model.net.named_children() if isinstance(m, nn.MaxPool2d)]
        if conv.stride == (1, 1) and not pools:
            raise NoEffect("the stem keeps the size of the image already")
        model.net.set_submodule(path, drawn_conv(conv.in_channels, conv.out_channels, 3, run, self.name, padding=1))
        for name in pools:
            setattr(model.net, name, nn.Identity())
        return model
