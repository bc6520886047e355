"""Random crop of the padded image: translation by whole pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from harness.experiment import Recipe
from harness.tricks.contract import Batch, BatchStage, Choice, DataInfo, Info, NoEffect, Run, Search, Trick, at
from harness.tricks.images import check_allowed, windows

BORDERS = {"zero": "constant", "reflect": "reflect"}


def crop(x: Tensor, u: Tensor, border: int, mode: str) -> Tensor:
    """Pad by `border` pixels and cut the old size out, at corners drawn by u (2, N), uniform in [0, 1)."""
    down, right = (u * (2 * border + 1)).long()
    return windows(pad(x, [border] * 4, mode=BORDERS[mode]), down, right, x.shape[-1])


class RandomCrop(Trick):
    """He et al. 2015, 1512.03385, section 4.2."""

    info: ClassVar = Info(
        name="random_crop",
        family="augment",
        summary="shift each image at random within a border",
        paper="He, Zhang, Ren, Sun 2015, arXiv:1512.03385, section 4.2 (pad by 4 of 32 pixels, crop)",
        formula="pad each side by pad * H pixels, cut an H x H window at a uniform whole-pixel place, per image",
        expect=(
            "Helps nearly always on natural images; a standard part of recipes, so compare with what the recipe does. "
            "Harms where shifts cut off what fills the frame. A reflected border keeps statistics, but draws mirrored "
            "strokes beside a digit."
        ),
        differs="replaces the recipe's own shift, so that the arm differs in that alone; 'reflect' is an addition",
        excludes={"standard_augment": "both set how far images are shifted"},
    )
    pad: Annotated[float, Field(gt=0, le=0.5), Search(0.03, 0.25)] = 0.125
    mode: Annotated[Literal["zero", "reflect"], Choice(("zero", "reflect"))] = "zero"
    force: bool = False

    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Take the recipe's shift away, which this one replaces."""
        check_allowed("pad", self.pad, data.invariances.shift, self.force)
        pixels, old = round(self.pad * data.size), round(recipe.augment.shift * data.size)
        if pixels == 0:
            raise NoEffect(f"pad = {self.pad:g} is less than half a pixel of {data.size}")
        if pixels == old and self.mode == "zero":
            raise NoEffect(f"the recipe shifts by {old} pixels within a black border already (augment.shift)")
        augment = recipe.augment.model_copy(update={"shift": 0.0})
        return recipe.model_copy(update={"augment": augment})

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a window per image."""
        u = torch.rand(2, len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return replace(batch, x=crop(batch.x, u, round(self.pad * batch.x.shape[-1]), self.mode))
