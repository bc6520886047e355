"""Random erasing: overwrite a rectangle of some images, inside the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import table
from harness.tricks.images import box_mask

TRIES = 10
"""Shapes drawn per image; the first that fits is used. With the defaults 96 % of them fit."""


class Boxes(NamedTuple):
    """Rectangles, one per image, as integer tensors (N,); `fits` is False where no drawn shape fitted."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    fits: Tensor


def boxes(area: Tensor, aspect: Tensor, place: Tensor, size: tuple[int, int]) -> Boxes:
    """Boxes from candidate shapes and places.

    Args:
        area: share of the image, (N, tries).
        aspect: height over width, (N, tries).
        place: uniform numbers in [0, 1) that choose the upper left corner, (N, 2).
        size: height and width of the image in pixels.
    """
    pixels = area * size[0] * size[1]
    height = (pixels * aspect).sqrt().round().clamp(min=1)
    width = (pixels / aspect).sqrt().round().clamp(min=1)
    fit = (height < size[0]) & (width < size[1])
    first = fit.int().argmax(1, keepdim=True)
    height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
    top = place[:, 0] * (size[0] - height + 1)
    left = place[:, 1] * (size[1] - width + 1)
    return Boxes(top.long(), left.long(), height.long(), width.long(), fit.any(1))


class RandomErasing(Trick):
    """Zhong et al. 2017, 1708.04896, algorithm 1."""

    info: ClassVar = Info(
        name="random_erasing",
        family="augment",
        summary="overwrite a random rectangle of some images",
        paper="Zhong, Zheng, Kang, Li, Yang 2017, arXiv:1708.04896",
        formula=(
            "with probability p per image, a rectangle of area uniform in [area_min, area_max] of the image "
            "and aspect uniform in [aspect_min, 1 / aspect_min], wholly inside the image, is overwritten; y "
            "unchanged"
        ),
        expect=(
            "Helps where objects are occluded or evidence is redundant; harms small glyphs such as digits when large."
        ),
        differs=(
            "As in the authors' code, shapes that do not fit are redrawn and then placed uniformly; ten "
            "shapes are drawn at once and the image is left alone if none fits. `fill`: 'pixel' is the "
            "paper's noise, uniform in [0, 1]; 'rand' is one colour per image, 'const' the mean colour."
        ),
    )
    p: Annotated[float, Field(ge=0, le=1), Search(0.1, 1.0), NoOp(0)] = 0.5
    area_min: Annotated[float, Field(gt=0, le=0.5), Search(0.01, 0.1, log=True)] = 0.02
    area_max: Annotated[float, Field(gt=0, le=1), Search(0.1, 0.5)] = 0.4
    aspect_min: Annotated[float, Field(gt=0, le=1), Search(0.2, 1.0)] = 0.3
    fill: Annotated[Literal["const", "rand", "pixel"], Choice(("const", "rand", "pixel"))] = "pixel"

    @model_validator(mode="after")
    def _ordered(self) -> RandomErasing:
        if self.area_min > self.area_max:
            raise ValueError(f"area_min = {self.area_min} exceeds area_max = {self.area_max}")
        return self

    @at(BatchStage.NOISE)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a box per image, and overwrite."""
        x, g = batch.x, run.rng(self.name)
        n, size = len(x), (x.shape[-2], x.shape[-1])
        shape = torch.rand(2, n, TRIES, generator=g, device=x.device)
        place = torch.rand(n, 3, generator=g, device=x.device)
        noise = torch.rand(x.shape, generator=g, device=x.device)
        area = self.area_min + (self.area_max - self.area_min) * shape[0]
        aspect = self.aspect_min + (1 / self.aspect_min - self.aspect_min) * shape[1]
        box = boxes(area, aspect, place, size)
        erased = box_mask(box.top, box.left, box.height, box.width, size)
        erased &= (box.fits & (place[:, 2] < self.p))[:, None, None]
        mean = table(run.data.mean, x).view(1, -1, 1, 1)
        fills = {"const": mean, "rand": noise[..., :1, :1], "pixel": noise}
        return replace(batch, x=torch.where(erased[:, None], fills[self.fill].to(x.dtype), x))
