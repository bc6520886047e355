"""A stem that cuts the image into patches, as transformers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import nn

from harness.tricks.blocks import drawn_conv, stem_convolution
from harness.tricks.contract import Choice, Info, ModelStage, NotApplicable, Run, Trick, at
from harness.tricks.modules import check_forward

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

SHARE = 4 / 224
"""Side of a patch over that of the image in the paper."""


class PatchifyStem(Trick):
    """Liu et al. 2022, 2201.03545, section 2.2 (ConvNeXt)."""

    info: ClassVar = Info(
        name="patchify_stem",
        family="architecture",
        summary="a first convolution whose stride is its size",
        paper="Liu, Mao, Wu, Feichtenhofer, Darrell, Xie 2022, arXiv:2201.03545, section 2.2 (ConvNeXt)",
        formula="the first convolution, and a max-pooling behind it, become one p x p convolution of stride p",
        expect=(
            "On ImageNet as good as the 7x7 stem with pooling, which also divides the side by 4 (+0.1 in the paper). "
            "In networks for small images, whose stem keeps the size, it saves work and loses what was in it."
        ),
        differs=(
            "p = 4 for sides of 224; by default the same share of the side, but at least 2. The stem's norm and "
            "activation stay, where ConvNeXt has a layer norm alone."
        ),
        cost=0.4,
        excludes={"small_image_stem": "each replaces the first convolution"},
    )
    p: Annotated[int | None, Field(ge=2), Choice((None, 2, 4))] = None

    @at(ModelStage.STEM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Replace the first convolution, and take a max-pooling away."""
        p = self.p or max(2, round(SHARE * run.data.size))
        if p > run.data.size:
            raise NotApplicable(f"p = {p} is more than the image's side of {run.data.size}")
        path, conv = stem_convolution(model)
        model.net.set_submodule(path, drawn_conv(conv.in_channels, conv.out_channels, p, run, self.name, p))
        for name, module in list(model.net.named_children()):
            if isinstance(module, nn.MaxPool2d):
                setattr(model.net, name, nn.Identity())
        check_forward(model, run, run.data.size, f"a stem that divides the side by {p}")
        return model
