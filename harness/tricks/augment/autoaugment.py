"""AutoAugment: one of 25 pairs of operations that a search has found, on each image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, Run, Trick, at
from harness.tricks.operations import one_each
from harness.tricks.policies import AUTO, Space, bearable, operate

Step = tuple[str, float, int]
"""An operation, the probability with which it is applied, and its strength, 0 to 9."""

POLICIES: dict[str, tuple[tuple[Step, Step], ...]] = {
    "cifar10": (
        (("invert", 0.1, 0), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 0)),
        (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
        (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
        (("color", 0.9, 9), ("equalize", 0.6, 0)),
        (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 0), ("invert", 0.1, 0)),
        (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
        (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
        (("color", 0.4, 0), ("equalize", 0.6, 0)),
        (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("autocontrast", 0.6, 0)),
        (("invert", 0.6, 0), ("equalize", 1.0, 0)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    ),
    "svhn": (
        (("shear_x", 0.9, 4), ("invert", 0.2, 0)),
        (("shear_y", 0.9, 8), ("invert", 0.7, 0)),
        (("equalize", 0.6, 0), ("solarize", 0.6, 6)),
        (("invert", 0.9, 0), ("equalize", 0.6, 0)),
        (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
        (("shear_x", 0.9, 4), ("autocontrast", 0.8, 0)),
        (("shear_y", 0.9, 8), ("invert", 0.4, 0)),
        (("shear_y", 0.9, 5), ("solarize", 0.2, 6)),
        (("invert", 0.9, 0), ("autocontrast", 0.8, 0)),
        (("equalize", 0.6, 0), ("rotate", 0.9, 3)),
        (("shear_x", 0.9, 4), ("solarize", 0.3, 3)),
        (("shear_y", 0.8, 8), ("invert", 0.7, 0)),
        (("equalize", 0.9, 0), ("translate_y", 0.6, 6)),
        (("invert", 0.9, 0), ("equalize", 0.6, 0)),
        (("contrast", 0.3, 3), ("rotate", 0.8, 4)),
        (("invert", 0.8, 0), ("translate_y", 0.0, 2)),
        (("shear_y", 0.7, 6), ("solarize", 0.4, 8)),
        (("invert", 0.6, 0), ("rotate", 0.8, 4)),
        (("shear_y", 0.3, 7), ("translate_x", 0.9, 3)),
        (("shear_x", 0.1, 6), ("invert", 0.6, 0)),
        (("solarize", 0.7, 2), ("translate_y", 0.6, 7)),
        (("shear_y", 0.8, 4), ("invert", 0.8, 0)),
        (("shear_x", 0.7, 9), ("translate_y", 0.8, 3)),
        (("shear_y", 0.8, 5), ("autocontrast", 0.7, 0)),
        (("shear_x", 0.7, 2), ("invert", 0.1, 0)),
    ),
}
"""Tables 7, 9 and 8 of the paper, with 0 as the strength of what has none."""

SMALL = 64
"""Sides up to this are those of CIFAR, for `policy = 'auto'`."""


def outcomes(first: Step, second: Step) -> Iterator[tuple[tuple[Step, ...], float]]:
    """What may be applied of a pair, and with which probability."""
    p, q = first[1], second[1]
    yield (first, second), p * q
    yield (first,), p * (1 - q)
    yield (second,), (1 - p) * q
    yield (), (1 - p) * (1 - q)


def applied(allowed: Space, generator: torch.Generator, steps: tuple[Step, ...], x: Tensor) -> Tensor:
    """Images after those steps that are allowed."""
    for name, _, strength in steps:
        if name in allowed:
            x = operate(name, allowed[name], partial(levels, strength / 9), generator, x)
    return x


def levels(level: float, x: Tensor) -> Tensor:
    """One level for all images, (N,)."""
    return x.new_full((len(x),), level)


class AutoAugment(Trick):
    """Cubuk et al. 2018, 1805.09501, section 3 and appendix A."""

    info: ClassVar = Info(
        name="autoaugment",
        family="augment",
        summary="one of 25 searched pairs of operations on each image",
        paper="Cubuk, Zoph, Mane, Vasudevan, Le 2018, arXiv:1805.09501, section 3 and appendix A",
        formula=(
            "x = o2(o1(x)), the pair drawn evenly from 25 for each image; each of both is applied with its own "
            "probability and strength of 9, to either side where an operation has two"
        ),
        expect=(
            "Helps on the data for which the policy was searched, with large nets and long training; the search is "
            "paid by whoever published the policy. Little better than policies without a search. On one CPU thread a "
            "step takes 1.9 times as long with the network for digits, and 1.00 times with a ResNet-18 at 32 pixels."
        ),
        differs=(
            "Strengths as in torchvision: enhancing starts from the image, resampling is bilinear and fills with "
            "black, where the authors' code takes the nearest pixel and fills with grey. auto is svhn where a mirror "
            "changes the class, else cifar10 up to 64 pixels and imagenet above. Images that bear less than "
            "photographs are moved and turned no further than that; an operation that may not act is left out of "
            "its pair. The paper adds cutout on CIFAR and SVHN."
        ),
        cost=1.2,
    )
    policy: Annotated[
        Literal["auto", "cifar10", "imagenet", "svhn"], Choice(("auto", "cifar10", "imagenet", "svhn"))
    ] = "auto"
    force: bool = False

    def pairs(self, run: Run) -> tuple[tuple[Step, Step], ...]:
        """The policy for the run's images."""
        if self.policy != "auto":
            return POLICIES[self.policy]
        small = "cifar10" if run.data.size <= SMALL else "imagenet"
        return POLICIES[small if run.data.invariances.flip else "svhn"]

    def prepare(self, run: Run) -> None:
        """Refuse images on which no operation may act."""
        bearable(AUTO, run.data, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw for each image a pair, and which of both steps are applied."""
        generator = run.rng(self.name)
        act = partial(applied, bearable(AUTO, run.data, self.force), generator)
        changes, chances = [], []
        for first, second in self.pairs(run):
            for steps, chance in outcomes(first, second):
                changes.append(partial(act, steps))
                chances.append(chance / len(self.pairs(run)))
        return replace(batch, x=one_each(batch.x, changes, run.numpy(self.name), generator, chances))
