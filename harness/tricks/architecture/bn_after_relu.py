"""Batch normalisation after the activation inside residual blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from harness.tricks.contract import Info, ModelStage, Run, Trick, at
from harness.tricks.modules import conv_norm_names, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class BnAfterRelu(Trick):
    """Mishkin, Sergievskiy & Matas 2016, 1606.02228, section 3.2."""

    info: ClassVar = Info(
        name="bn_after_relu",
        family="architecture",
        summary="normalise after the activation",
        paper="Mishkin, Sergievskiy, Matas 2016, arXiv:1606.02228",
        formula="norm(relu(conv(x))) in place of relu(norm(conv(x))) for the inner layers of every residual block",
        expect=(
            "The paper finds a small gain in a plain net without shortcuts on small ImageNet images. In residual "
            "nets only the inner layers change, so expect little, in either direction."
        ),
        differs=(
            "The last norm of a block stands before the addition and stays: moving it would change the "
            "shortcut. The stem stays, too."
        ),
        excludes={"repvgg_reparam": "a norm after the activation cannot be folded into the convolution"},
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Move every inner activation before its norm."""
        for block in residual_blocks(model):
            for i, (_, norm) in enumerate(conv_norm_names(block)[:-1], start=1):
                act = getattr(block, f"act{i}")
                setattr(block, norm, nn.Sequential(act, getattr(block, norm)))
                setattr(block, f"act{i}", nn.Identity())
        return model
