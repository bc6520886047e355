"""Channels last: images and weights lie in memory pixel by pixel, not channel by channel."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from harness.experiment import Recipe
from harness.tricks.contract import Choice, DataInfo, Info, NoEffect, RecipeStage, Trick, at


class ChannelsLast(Trick):
    """The NHWC layout, for convolutions of libraries that are written for it.

    layout: the one that the arm has, so that a baseline in channels last can be compared with the other one.
    """

    info: ClassVar = Info(
        name="channels_last",
        family="efficiency",
        kind="protocol",
        summary="images and weights in the other memory layout, pixel by pixel",
        paper="torch's memory formats (pytorch.org/tutorials/intermediate/memory_format_tutorial.html); Composer",
        formula="a tensor (N, C, H, W) has the strides (HWC, 1, WC, C) in place of (CHW, HW, W, 1): the same numbers",
        expect=(
            "Time only: a step takes 0.7 to 0.9 of it with 16 bits on GPUs that have tensor cores, and on CPUs about "
            "the same. Sums are made in another order, so that results differ as between two processors."
        ),
        differs="nothing",
    )
    layout: Annotated[Literal["channels_last", "contiguous"], Choice(("channels_last", "contiguous"))] = "channels_last"

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Set the layout."""
        wanted = self.layout == "channels_last"
        if recipe.channels_last == wanted:
            other = str(not wanted).lower()
            raise NoEffect(f"the recipe's layout is {self.layout} already; set recipe.channels_last = {other}")
        return recipe.model_copy(update={"channels_last": wanted})
