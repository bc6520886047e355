"""All dropout rates of a network, scaled by one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from harness.tricks.blocks import DropBranch, last_of_branch
from harness.tricks.contract import Info, ModelStage, NoEffect, NoOp, Run, Search, Trick, at
from harness.tricks.modules import DropInput, conv_norm_names, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class DropoutMultiplier(Trick):
    """Howard & Ruder 2018, 1801.06146; fast.ai's drop_mult."""

    info: ClassVar = Info(
        name="dropout_multiplier",
        family="regularization",
        summary="scale all dropout rates by one number",
        paper="Howard, Ruder 2018, arXiv:1801.06146 (fastai: drop_mult)",
        formula=(
            "p_i = m p_i0 for dropout before the head, in the middle of residual blocks, and of whole residual "
            "branches (stochastic depth): the ratios of the rates stay"
        ),
        expect=(
            "One number to search where there were three: larger m for small training sets and long training, "
            "smaller m for short runs, which dropout slows down. The paper uses it in recurrent nets."
        ),
        differs="rates of an image classifier in place of those of a recurrent net; p_i must stay below one",
        excludes={"dropout": "each sets dropout rates of the same places"},
    )
    m: Annotated[float, Field(ge=0), Search(0.1, 2.0), NoOp(0)] = 1.0
    head: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.45)] = 0.2
    block: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.45)] = 0.1
    path: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.45)] = 0.05

    @model_validator(mode="after")
    def _below_one(self) -> DropoutMultiplier:
        if self.m * max(self.head, self.block, self.path) >= 1:
            raise ValueError(f"m = {self.m} makes a rate of one or more")
        return self

    @at(ModelStage.WRAP)  # after surgery on blocks and head, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the head and, in every residual block, the second convolution and the last norm."""
        if self.m * max(self.head, self.block, self.path) == 0:
            raise NoEffect("all rates are zero, as in the baseline")
        g = run.rng(self.name)
        model.head.register_forward_pre_hook(DropInput(self.m * self.head, g, whole_channels=False))
        for block in residual_blocks(model) if self.block or self.path else ():
            names = conv_norm_names(block)
            middle, last = getattr(block, names[1][0]), getattr(block, last_of_branch(block))
            middle.register_forward_pre_hook(DropInput(self.m * self.block, g, whole_channels=False))
            last.register_forward_hook(DropBranch(self.m * self.path, g))
        return model
