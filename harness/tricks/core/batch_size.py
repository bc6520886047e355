"""Batch size as a trick: at equal epochs, or at equal updates."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import (
    Choice,
    DataInfo,
    Info,
    NoEffect,
    NotApplicable,
    RecipeStage,
    Search,
    Trick,
    at,
)


def epochs_for_equal_updates(epochs: int, images: int, old: int, new: int) -> int:
    """Epochs at batch size `new` whose number of updates is nearest to `epochs` at `old`, at least one.

    An epoch has images // batch size updates, because the last incomplete batch is dropped.
    """
    return max(1, round(epochs * (images // old) / (images // new)))


class BatchSize(Trick):
    """Masters & Luschi 2018, 1804.07612: small batches generalise better; the rate is left as it is."""

    info: ClassVar = Info(
        name="batch_size",
        family="core",
        kind="value",
        summary="another batch size",
        paper="Masters, Luschi 2018, arXiv:1804.07612; Keskar et al. 2016, arXiv:1609.04836",
        formula="B = size; gradient noise has variance proportional to 1 / B",
        expect=(
            "Smaller batches make noisier curves and often generalise better; larger ones run faster per "
            "image. At equal epochs a larger batch makes fewer updates, which alone can hurt; at equal "
            "updates it sees more data."
        ),
        differs="the learning rate stays; linear_lr_scaling changes it with the batch",
        measured=(
            "Not for want of epochs: on digits, where a batch of 64 leaves one update an epoch, −2.5 points [−3.3, "
            "−1.6] (n = 10) and, with four times the epochs, −3.7 [−7.7, 0.3] (n = 5; harness ablate batch_size --set "
            "recipe.epochs=320 --experiment digits --seeds 5)."
        ),
    )
    size: Annotated[int, Field(ge=1), Search(16, 1024, log=True)] = 64
    equal: Annotated[Literal["epochs", "updates"], Choice(("epochs", "updates"))] = "epochs"

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Set the batch size and, for equal updates, the epochs."""
        images = sum(data.train_counts)
        if self.size > images:
            raise NotApplicable(f"size = {self.size} is more than the {images} training images")
        if self.size == recipe.batch_size:
            raise NoEffect(f"the recipe's batch size is {self.size} already")
        epochs = recipe.epochs
        if self.equal == "updates":
            epochs = epochs_for_equal_updates(epochs, images, recipe.batch_size, self.size)
        return recipe.model_copy(update={"batch_size": self.size, "epochs": epochs})
