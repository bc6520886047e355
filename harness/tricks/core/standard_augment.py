"""Standard augmentation: the crops, flips and rotations that everybody uses for such images."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.experiment import Augment, Recipe
from harness.tricks.contract import DataInfo, Info, NoEffect, NotApplicable, Search, Trick

SMALL = 64
"""Sides up to this are shifted (CIFAR); larger images are cropped and resized (ImageNet)."""


def preset(data: DataInfo) -> Augment:
    """The usual augmentation of such images, within what leaves their classes alone."""
    allowed = data.invariances
    if data.size > SMALL:
        return Augment(scale_min=0.08, flip=allowed.flip)
    shift = min(0.125, allowed.shift)
    if data.channels == 1:
        return Augment(shift=shift, rotation=min(10.0, allowed.rotation))
    return Augment(shift=shift, flip=allowed.flip)


class StandardAugment(Trick):
    """Szegedy et al. 2014, 1409.4842, section 6 (large images); He et al. 2015, 1512.03385, 4.2 (small).

    A value that is given replaces that of the preset, which depends on the data set.
    """

    info: ClassVar = Info(
        name="standard_augment",
        family="core",
        summary="the usual random crops, flips and rotations of the data set's kind",
        paper="Szegedy et al. 2014, arXiv:1409.4842; He, Zhang, Ren, Sun 2015, arXiv:1512.03385",
        formula=(
            "grey: shift up to 1/8 of the side with black border, rotation up to 10 degrees; small colour: "
            "shift up to 1/8, mirror with probability 1/2; large: crop of 8 to 100 % of the area, aspect "
            "3/4 to 4/3, mirror"
        ),
        expect=(
            "Helps wherever the net fits the training set, most with little data; the largest single gain "
            "of most recipes. Slows a net that underfits, and does nothing where the recipe augments like "
            "this already."
        ),
        differs=("replaces the recipe's augmentation; classes decide what is allowed (a mirrored digit is another)"),
    )
    shift: Annotated[float | None, Field(ge=0, le=0.5), Search(0.0, 0.25)] = None
    flip: bool | None = None
    rotation: Annotated[float | None, Field(ge=0, le=180), Search(0.0, 30.0)] = None
    scale_min: Annotated[float | None, Field(gt=0, le=1), Search(0.05, 1.0)] = None

    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Replace the recipe's augmentation."""
        allowed = data.invariances
        for name, value, most in (
            ("shift", self.shift, allowed.shift),
            ("flip", self.flip, allowed.flip),
            ("rotation", self.rotation, allowed.rotation),
        ):
            if value is not None and value > most:
                raise NotApplicable(f"{name} = {value} would change the class of these images; they allow {most}")
        given = {k: v for k, v in self.model_dump().items() if v is not None}
        augment = preset(data).model_copy(update=given)
        if augment == recipe.augment:
            raise NoEffect("the recipe augments like this already")
        return recipe.model_copy(update={"augment": augment})
