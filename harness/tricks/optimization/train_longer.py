"""Train longer: more epochs, with the schedule stretched. The fair rival of every costly trick."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import DataInfo, Info, NoEffect, NoOp, RecipeStage, Search, Trick, at


class TrainLonger(Trick):
    """Hoffer, Hubara, Soudry 2017, 1705.08741, sections 4 and 5.

    factor: on the number of epochs; below one it trains shorter.
    """

    info: ClassVar = Info(
        name="train_longer",
        family="optimization",
        kind="protocol",
        summary="more epochs, with the schedule stretched over them",
        paper="Hoffer, Hubara, Soudry 2017, arXiv:1705.08741",
        formula="epochs' = round(factor epochs), at least one; lr'(t factor) = lr(t)",
        expect=(
            "Helps nearly always when training ended before the fit was complete, and regularised training most. A "
            "tuned recipe on few clean images gains little; with wrong labels it may memorise them. A trick that "
            "costs a factor per step has to beat this arm, not the baseline."
        ),
        differs=(
            "The paper trains large batches for as many updates as small ones; here the batch stays. What is given "
            "in epochs rather than in fractions of training, such as a warm-up, is not stretched."
        ),
        measured=(
            "A finding: on noisy digits −2.0 points [−2.8, −1.2] (n = 10), on clean ones +0.8 [−0.3, 2.0]. Twice the "
            "epochs fit 98 % of the training labels, the wrong 15 % among them; the baseline fits 92 %."
        ),
    )
    factor: Annotated[float, Field(gt=0), Search(0.5, 4.0, log=True), NoOp(1)] = 2.0

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Multiply the epochs; schedules are functions of progress and stretch by themselves."""
        epochs = max(1, round(self.factor * recipe.epochs))
        if epochs == recipe.epochs:
            raise NoEffect(f"factor = {self.factor:g} leaves {recipe.epochs} epochs as they are")
        return recipe.model_copy(update={"epochs": epochs})
