"""Policies of image operations: how far each operation goes at a level from 0 to 1, by the scale of whose policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.data.types import PHOTOS
from harness.tricks.contract import DataInfo, NoEffect
from harness.tricks.operations import NEVER, OPERATIONS


class Scale(NamedTuple):
    """Amounts from level 0 (`start`) to level 1 (`end`), or, signed, to either side of the start.

    whole: to which whole number amounts are rounded.
    """

    start: float = 0.0
    end: float = 0.0
    signed: bool = False
    whole: Literal["", "nearest", "up"] = ""

    def amount(self, level: Tensor, generator: torch.Generator) -> Tensor:
        """The amounts of levels (N,) in [0, 1]; the sign is drawn for each image."""
        step = (self.end - self.start) * level
        if self.signed:
            step = step * (2 * torch.randint(2, level.shape, generator=generator, device=level.device) - 1)
        amount = self.start + step
        return amount.round() if self.whole == "nearest" else amount.ceil() if self.whole == "up" else amount


Space = Mapping[str, Scale]
"""Operations by name, each with its scale."""

STILL = Scale()
"""Of an operation without an amount."""


def space(
    shear: float, move: float, turn: float, enhance: float, bits: tuple[int, int], more: Space
) -> dict[str, Scale]:
    """The operations that all policies have, up to these amounts, and more."""
    both_ways = {"shear_x": shear, "shear_y": shear, "translate_x": move, "translate_y": move, "rotate": turn}
    enhanced = ("brightness", "color", "contrast", "sharpness") if enhance else ()
    return {
        **{name: Scale(0.0, most, signed=True) for name, most in both_ways.items()},
        **{name: Scale(1.0, 1.0 + enhance, signed=True) for name in enhanced},
        "posterize": Scale(*bits, whole="nearest"),
        "solarize": Scale(NEVER, 0.0),
        "autocontrast": STILL,
        "equalize": STILL,
        **more,
    }


RAND = space(0.3, 150 / 331, 30.0, 0.9, (8, 4), {"identity": STILL})
"""RandAugment (1909.13719) with torchvision's scale, on which enhancing by level 0 changes nothing."""

TIMM = space(0.3, 0.45, 30.0, 0.9, (4, 0), {"invert": STILL, "solarize_add": Scale(0.0, 110 / 255)}) | {
    "posterize": Scale(4.0, 0.0, whole="up")
}
"""timm's RandAugment with its increasing operations (`inc1`)."""

AUTO = space(0.3, 150 / 331, 30.0, 0.9, (8, 4), {"invert": STILL})
"""AutoAugment (1805.09501) with torchvision's scale."""

WIDE = space(0.99, 32 / 224, 135.0, 0.99, (8, 2), {"identity": STILL})
"""TrivialAugment (2103.10158), its wide space; 32 pixels of ImageNet's 224."""

AUGMIX = space(0.3, 1 / 3, 30.0, 0.0, (4, 0), {})
"""AugMix (1912.02781), which leaves out what its test corruptions are made of."""

AUGMIX_ALL = space(0.3, 1 / 3, 30.0, 0.9, (4, 0), {})
"""AugMix with the four enhancing operations, which torchvision and timm take by default."""


def bearable(published: Space, data: DataInfo, force: bool = False) -> dict[str, Scale]:
    """The operations that may act on a data set, each with how far it may go.

    Images that bear what photographs bear get the published scale. Others are moved, sheared and turned no further
    than they are declared to bear, which then is level 1; their colours stay where they must. What cannot change an
    image of that many channels is left out. With `force`, the published scale holds for all.

    Raises:
        NoEffect: nothing is left.
    """
    bears = data.invariances
    photograph = bears.flip and bears.shift >= PHOTOS.shift and bears.rotation >= PHOTOS.rotation
    found: dict[str, Scale] = {}
    for name, scale in published.items():
        operation, most = OPERATIONS[name], scale.end
        if not force:
            if operation.hue and data.channels == 3 and not bears.color:
                continue
            if operation.limit and not photograph:
                most = min(most, getattr(bears, operation.limit))
        if (operation.grey or data.channels == 3) and not (operation.limit and most == 0):
            found[name] = scale._replace(end=most)
    if set(found) <= {"identity"}:
        raise NoEffect("no operation of the policy may act on these images; force = true takes all")
    return found


def operate(
    name: str, scale: Scale, level: Callable[[Tensor], Tensor], generator: torch.Generator, x: Tensor
) -> Tensor:
    """One operation on images (N, C, H, W), by amounts on a scale at the levels (N,) that `level` gives for them."""
    return OPERATIONS[name].change(x, scale.amount(level(x), generator))


def changes(
    operations: Space, level: Callable[[Tensor], Tensor], generator: torch.Generator
) -> list[Callable[[Tensor], Tensor]]:
    """The operations of a space as changes of images, for `operations.one_each`."""
    return [partial(operate, name, scale, level, generator) for name, scale in operations.items()]
