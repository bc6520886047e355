"""Linear (or square-root) scaling: the learning rate follows the batch size."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import Choice, DataInfo, Info, NoEffect, RecipeStage, Trick, at


def scaled(lr: float, batch_size: int, reference: int, rule: str) -> float:
    """Lr times the ratio of the batch sizes, or times its square root."""
    ratio = batch_size / reference
    return lr * (ratio if rule == "linear" else ratio**0.5)


class LinearLrScaling(Trick):
    """Goyal et al. 2017, 1706.02677, section 2.1; the square root is Krizhevsky's, 1404.5997, section 4.

    reference: the batch size for which the recipe's rate was declared.
    """

    info: ClassVar = Info(
        name="linear_lr_scaling",
        family="core",
        kind="value",
        summary="learning rate proportional to the batch size",
        paper="Goyal et al. 2017, arXiv:1706.02677; square root: Krizhevsky 2014, arXiv:1404.5997",
        formula="lr = lr_ref B / B_ref, or lr_ref sqrt(B / B_ref), where lr_ref is the rate of the recipe",
        expect=(
            "Helps when the batch size changes and the rate was tuned at B_ref; the square root suits "
            "adaptive optimizers. Large batches need a warm-up as well. Hurts a rate that was tuned at the "
            "batch size in use."
        ),
        differs="the linear rule with a warm-up is the paper's; here the warm-up is a trick of its own",
        measured=(
            "As expected: the digits' rate was tuned at their batch size, so the rule makes it smaller; −3.2 points "
            "[−4.6, −1.9] on digits, −4.1 [−5.5, −2.7] on noisy digits (n = 10)."
        ),
    )
    reference: Annotated[int, Field(ge=1)] = 256
    rule: Annotated[Literal["linear", "sqrt"], Choice(("linear", "sqrt"))] = "linear"

    @at(RecipeStage.RATE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Scale the rate for the batch size, which other tricks may have changed before."""
        if recipe.batch_size == self.reference:
            raise NoEffect(f"batch size and reference are both {self.reference}: nothing to scale")
        lr = scaled(recipe.lr, recipe.batch_size, self.reference, self.rule)
        return recipe.model_copy(update={"lr": lr})
