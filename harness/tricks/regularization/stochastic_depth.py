"""Stochastic depth: whole residual branches are left out at random in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from harness.tricks.blocks import DropBranch, last_of_branch
from harness.tricks.contract import Choice, Info, ModelStage, NoOp, Run, Search, Trick, at
from harness.tricks.modules import residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def rates(blocks: int, rate: float, rule: str) -> list[float]:
    """The chance of each branch, from the input on, to be left out: l rate / L, or `rate` for all."""
    return [rate * (i + 1) / blocks if rule == "linear" else rate for i in range(blocks)]


class StochasticDepth(Trick):
    """Huang et al. 2016, 1603.09382, section 3."""

    info: ClassVar = Info(
        name="stochastic_depth",
        family="regularization",
        summary="leave out whole residual branches at random in training",
        paper="Huang, Sun, Liu, Sedra, Weinberger 2016, arXiv:1603.09382, section 3",
        formula="x + b F(x) / (1 - p_l), b ~ Bernoulli(1 - p_l) an image, p_l = rate l / L for block l of L",
        expect=(
            "Helps deep networks in long training: the paper gains a point and more at 110 layers, recipes for "
            "ImageNet some tenths. Near nothing or harm in nets of few blocks and in short runs."
        ),
        differs=(
            "Drawn for each image, not for the batch, and scaled up in training in place of down in evaluation, as in "
            "timm and torchvision, so no time is saved. The paper's rate at 110 layers is 0.5."
        ),
        excludes={"dropout_multiplier": "each drops residual branches"},
    )
    rate: Annotated[float, Field(ge=0, lt=1), Search(0.05, 0.5), NoOp(0)] = 0.1
    rule: Annotated[Literal["linear", "uniform"], Choice(("linear", "uniform"))] = "linear"

    @at(ModelStage.WRAP)  # after surgery on the branches, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the end of every branch."""
        blocks = residual_blocks(model)
        for block, rate in zip(blocks, rates(len(blocks), self.rate, self.rule), strict=True):
            getattr(block, last_of_branch(block)).register_forward_hook(DropBranch(rate, run.rng(self.name)))
        return model
