"""Colour jitter: change brightness, contrast, saturation and hue of each image."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoEffect, Run, Search, Trick, at
from harness.tricks.functional import table
from harness.tricks.operations import gray, stretch


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of RGB images by each image's share of the colour circle (N,); saturation and value stay."""
    r, g, b = x.unbind(1)
    value, low = x.amax(1), x.amin(1)
    chroma = value - low
    safe = chroma.clamp(min=1e-12)
    hue = torch.where(value == b, (r - g) / safe + 4, 0)
    hue = torch.where(value == g, (b - r) / safe + 2, hue)
    hue = torch.where(value == r, (g - b) / safe, hue) + 6 * turns.view(-1, 1, 1)  # in sixths of the circle
    sector = (table((5.0, 3.0, 1.0), x).view(1, 3, 1, 1) + hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(sector, 4 - sector).clamp(0, 1)


class ColorJitterHsv(Trick):
    """He et al. 2018, 1812.01187, section 2.1 (the baseline's step 4)."""

    info: ClassVar = Info(
        name="color_jitter_hsv",
        family="augment",
        summary="jitter brightness, contrast, saturation and hue",
        paper="He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv:1812.01187, section 2.1; Howard 2013, arXiv:1312.5402",
        formula=(
            "per image, in this order: x = f x; x = m + f (x - m), m the mean grey; x = g + f (x - g), g the pixel's "
            "grey; hue + U(-hue, hue) of the circle; f ~ U(1 - amount, 1 + amount) for each; clipped to [0, 1]"
        ),
        expect=(
            "Helps natural images under changing light. Harms where colour tells the class (flowers, birds). On grey "
            "images only brightness and contrast remain, which batch normalisation partly undoes."
        ),
        differs=(
            "The paper scales hue, saturation and brightness by U(0.6, 1.4); contrast and the additive hue are from "
            "torchvision's ColorJitter, whose order is random. Saturation and hue are left alone where the data set's "
            "colours must stay."
        ),
        cost=1.02,
    )
    brightness: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.8)] = 0.4
    contrast: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.8)] = 0.4
    saturation: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.8)] = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5), Search(0.0, 0.5)] = 0.1

    def _color(self, run: Run) -> bool:
        colored = run.data.channels == 3 and run.data.invariances.color
        return colored and (self.saturation > 0 or self.hue > 0)

    def prepare(self, run: Run) -> None:
        """Refuse when nothing is left to change."""
        if not (self.brightness or self.contrast or self._color(run)):
            raise NoEffect(
                "brightness and contrast are zero, and saturation and hue are zero, too, or must stay as "
                f"{run.spec.data.name} declares invariances.color = {run.data.invariances.color}"
            )

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw four changes per image, and make those that the data set allows."""
        x = batch.x
        u = 2 * torch.rand(4, len(x), generator=run.rng(self.name), device=x.device) - 1
        x = stretch(x, 0.0, 1 + self.brightness * u[0])
        x = stretch(x, gray(x).mean((2, 3), keepdim=True), 1 + self.contrast * u[1])
        if self._color(run):
            x = stretch(x, gray(x), 1 + self.saturation * u[2])
            x = turn_hue(x, self.hue * u[3])
        return replace(batch, x=x)
