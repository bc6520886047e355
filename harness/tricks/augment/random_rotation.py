"""Random rotation: turn each image by a random angle about its centre."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.experiment import Recipe
from harness.tricks.contract import Batch, BatchStage, DataInfo, Info, NoEffect, Run, Search, Trick, at
from harness.tricks.images import affine, check_allowed, warp


def rotate(x: Tensor, angle: Tensor) -> Tensor:
    """Turn each image counter-clockwise by its angle (N,) in radians, with black corners."""
    zero = torch.zeros_like(angle)
    return warp(x, affine(angle, zero + 1, zero, zero, zero))


class RandomRotation(Trick):
    """Folklore; for digits Simard et al. 2003, ICDAR, section 2."""

    info: ClassVar = Info(
        name="random_rotation",
        family="augment",
        summary="turn each image by a random angle",
        paper="Simard, Steinkraus, Platt 2003, ICDAR (affine distortions of digits)",
        formula="x = x turned about its centre by a ~ U(-degrees, degrees), bilinear, black outside, per image",
        expect=(
            "Helps small training sets of objects without a fixed upright. Little for photographs, where a few degrees "
            "are enough; large angles confuse 6 and 9. Bilinear sampling blurs tiny images."
        ),
        differs="replaces the recipe's own rotation, so that the arm differs by the angle alone",
        cost=1.02,
        excludes={"standard_augment": "both set how far images are turned"},
    )
    degrees: Annotated[float, Field(gt=0, le=180), Search(2.0, 45.0)] = 10.0
    force: bool = False

    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Take the recipe's rotation away, which this one replaces."""
        check_allowed("degrees", self.degrees, data.invariances.rotation, self.force)
        if recipe.augment.rotation == self.degrees:
            raise NoEffect(f"the recipe turns by up to {self.degrees:g} degrees already (augment.rotation)")
        augment = recipe.augment.model_copy(update={"rotation": 0.0})
        return recipe.model_copy(update={"augment": augment})

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw an angle per image, and resample."""
        u = torch.rand(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        return replace(batch, x=rotate(batch.x, (2 * u - 1) * math.radians(self.degrees)))
