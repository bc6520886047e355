"""Dropout before the head or inside residual blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, Info, ModelStage, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.modules import DropInput

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Dropout(Trick):
    """Srivastava et al. 2014; inside blocks Zagoruyko & Komodakis 2016, 1605.07146, section 2.4."""

    info: ClassVar = Info(
        name="dropout",
        family="regularization",
        summary="zero random units in training",
        paper=(
            "Hinton et al. 2012, arXiv:1207.0580; Srivastava et al. 2014, JMLR 15; in residual blocks "
            "Zagoruyko, Komodakis 2016, arXiv:1605.07146"
        ),
        formula="x = x m / (1 - p), m ~ Bernoulli(1 - p) per unit or per channel, in training only",
        expect=(
            "Helps wide heads, small training sets, long training and noisy labels (then p 0.5 and more, in "
            "blocks). Near nothing before the head of nets that end in global pooling; slows down short "
            "training."
        ),
        differs=(
            "`place = 'head'` drops the features before the last layer; 'block' drops the input of the "
            "second convolution of each residual block, the place of wide residual nets. `kind = 'channel'` "
            "on maps is Tompson et al. 2014, arXiv:1411.4280; on pooled features both kinds are the same. "
            "The dropout and stochastic depth that timm builds into its networks are off in the baseline and stay off "
            "here."
        ),
    )
    p: Annotated[float, Field(ge=0, lt=1), Search(0.05, 0.7), NoOp(0)] = 0.2
    place: Annotated[Literal["head", "block"], Choice(("head", "block"))] = "head"
    kind: Annotated[Literal["unit", "channel"], Choice(("unit", "channel"))] = "unit"

    @at(ModelStage.WRAP)  # after surgery on blocks and head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the head, or the second convolution of every residual block."""
        targets = [model.head]
        if self.place == "block":
            blocks = [m for m in model.modules() if hasattr(m, "shortcut") or hasattr(m, "downsample")]
            second = [getattr(block, "conv2", None) for block in blocks]
            targets = [conv for conv in second if isinstance(conv, nn.Module)]
        if not targets:
            raise NoEffect("needs residual blocks with a second convolution, and the model has none")
        drop = DropInput(self.p, run.rng(self.name), self.kind == "channel")
        for target in targets:
            target.register_forward_pre_hook(drop)
        return model
