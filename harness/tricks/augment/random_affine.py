"""Random affine map: turn, move, scale and shear each image in one resampling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import Batch, BatchStage, DataInfo, Info, NoEffect, Run, Search, Trick, at
from harness.tricks.images import affine, check_allowed, warp


class RandomAffine(Trick):
    """Simard et al. 2003, ICDAR, section 2."""

    info: ClassVar = Info(
        name="random_affine",
        family="augment",
        summary="turn, move, scale and shear each image at random",
        paper="Simard, Steinkraus, Platt 2003, ICDAR",
        formula=(
            "x = x scaled by U(1 - scale, 1 + scale), sheared by U(-shear, shear), turned by U(-degrees, degrees) and "
            "moved by U(-translate, translate) of the side each way, about the centre, bilinear, black outside"
        ),
        expect=(
            "The paper's gain on digits (MNIST) was large: affine distortions cut errors of a plain net, elastic ones "
            "more. Little beyond shifts for photographs. Bilinear sampling blurs tiny images."
        ),
        differs=(
            "Ranges are this harness's. Replaces the recipe's shift and rotation where it has its own. Scale and shear "
            "are refused if they move the border beyond the data set's shift; limits hold for each part, not for "
            "their sum, so all together move the border further."
        ),
        cost=1.02,
        excludes={
            "standard_augment": "both set how far images are moved and turned",
            "random_crop": "both move images",
            "random_resize": "both scale images",
            "random_rotation": "both turn images",
        },
    )
    degrees: Annotated[float, Field(ge=0, le=180), Search(0.0, 30.0)] = 10.0
    translate: Annotated[float, Field(ge=0, le=0.5), Search(0.0, 0.2)] = 0.1
    scale: Annotated[float, Field(ge=0, le=0.5), Search(0.0, 0.3)] = 0.1
    shear: Annotated[float, Field(ge=0, le=45), Search(0.0, 15.0)] = 5.0
    force: bool = False

    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Take the recipe's shift and rotation away where this trick has its own."""
        if not (self.degrees or self.translate or self.scale or self.shear):
            raise NoEffect("degrees, translate, scale and shear are all zero")
        allowed = data.invariances
        check_allowed("degrees", self.degrees, allowed.rotation, self.force)
        check_allowed("translate", self.translate, allowed.shift, self.force)
        check_allowed("scale", self.scale, 2 * allowed.shift, self.force)
        check_allowed("shear", self.shear, math.degrees(math.atan(2 * allowed.shift)), self.force)
        own = {"rotation": self.degrees, "shift": self.translate}
        augment = recipe.augment.model_copy(update={key: 0.0 for key, value in own.items() if value})
        return recipe.model_copy(update={"augment": augment})

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a map per image, and resample."""
        u = torch.rand(5, len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        angle, scale, shear, right, down = 2 * u - 1
        matrix = affine(
            angle * math.radians(self.degrees),
            1 + scale * self.scale,
            shear * math.radians(self.shear),
            right * self.translate,
            down * self.translate,
        )
        return replace(batch, x=warp(batch.x, matrix))
