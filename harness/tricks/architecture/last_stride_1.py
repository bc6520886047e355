"""No downsampling in the last stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.contract import Info, ModelStage, NoEffect, Run, Trick, at
from harness.tricks.modules import check_forward, replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class LastStride1(Trick):
    """Luo et al. 2019, 1906.08332, section 3.5; the idea is Sun et al. 2017, 1711.09349."""

    info: ClassVar = Info(
        name="last_stride_1",
        family="architecture",
        summary="keep the resolution in the last stage",
        paper="Luo, Jiang, Gu, Liu, Liao, Lai, Gu 2019, arXiv:1906.08332; Sun et al. 2017, arXiv:1711.09349",
        formula="the stride of the last stage is 1, not 2: the same parameters, a last map of four times the area",
        expect=(
            "The papers find gains in retrieval of people, whose parts need a fine map. Helps classification "
            "where the last map has few pixels, which small images make likely; the price is time. Compare it "
            "with a longer or wider baseline of the same cost."
        ),
        differs="nothing; other nets than the paper's ResNet-50 have their last stage treated alike",
        cost=1.6,
        excludes={"stride_conv_vs_maxpool": "it replaces the stride that this removes"},
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Set the strides of the last stage to one."""
        if not model.stages:
            raise NoEffect("needs named stages, and the model has none")
        last = model.stage(model.stages[-1])
        strided = [m for m in last.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]
        if not strided:
            raise NoEffect(f"the last stage, {model.stages[-1]}, does not downsample by a convolution")
        for conv in strided:
            conv.stride = (1, 1)
        if any(isinstance(m, nn.AvgPool2d) for m in last.modules()):  # in the shortcut of some residual nets
            replace_modules(last, lambda m: isinstance(m, nn.AvgPool2d), lambda m: nn.Identity(), "pooling")
        check_forward(model, run, run.data.size, "a last stage without stride")
        return model
