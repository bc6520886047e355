"""Random flip: mirror each image with some probability."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, NoOp, NotApplicable, Run, Search, Trick, at
from harness.tricks.images import flip


class RandomFlip(Trick):
    """Folklore; in the recipe of Krizhevsky et al. 2012, section 4.1."""

    info: ClassVar = Info(
        name="random_flip",
        family="augment",
        summary="mirror each image with probability p",
        paper="Krizhevsky, Sutskever, Hinton 2012, NIPS (horizontal reflections)",
        formula="x = mirror(x) with probability p, drawn per image; y unchanged",
        expect=(
            "Helps natural images, where a mirror keeps the class. Destroys the labels of digits, letters "
            "and signs, so it is refused there. No data set declares up-down mirrors harmless."
        ),
        differs=(
            "`axis = 'vertical'` and `force` are additions. `force = true` is the deliberate control that "
            "destroys labels: it mirrors against the data set's rule and should come out harmful."
        ),
        measured=(
            "Forced where the data forbid it: −4.8 points [−6.1, −3.4] on digits (n = 10), as it must, since a "
            "mirrored digit is another shape."
        ),
    )
    p: Annotated[float, Field(ge=0, le=1), Search(0.1, 0.5), NoOp(0)] = 0.5
    axis: Literal["horizontal", "vertical"] = "horizontal"
    force: bool = False

    def prepare(self, run: Run) -> None:
        """Refuse data sets whose classes a mirror changes, and recipes that mirror already."""
        rule = run.data.invariances.flip
        if self.axis == "horizontal" and run.recipe.augment.flip:
            raise NoEffect("the recipe mirrors already (augment.flip), and twice at random is once at random")
        if not self.force and (self.axis == "vertical" or not rule):
            raise NotApplicable(
                f"{run.spec.data.name} declares invariances.flip = {rule} for left-right mirrors and nothing "
                f"for up-down ones, so a {self.axis} flip may change the class; force = true flips anyway"
            )

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw which images to mirror, and mirror them."""
        which = torch.rand(len(batch.x), generator=run.rng(self.name), device=batch.x.device) < self.p
        return replace(batch, x=flip(batch.x, which, -1 if self.axis == "horizontal" else -2))
