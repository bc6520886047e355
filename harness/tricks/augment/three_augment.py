"""3-Augment: one of grey, solarized or blurred, then colour jitter, on each image."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at
from harness.tricks.images import check_colour
from harness.tricks.operations import blur, brightness, color, contrast, gray, one_each, solarize

NARROWEST = 1 / 20
"""The least deviation of the blur, as a share of the largest: 0.1 of 2 pixels."""

THRESHOLD = 128 / 255


def greyed(x: Tensor) -> Tensor:
    """Images without colour, of as many channels."""
    return gray(x).expand_as(x)


def solarized(x: Tensor) -> Tensor:
    """Images whose brighter half of the scale is inverted."""
    return solarize(x, x.new_full((len(x),), THRESHOLD))


def blurred(most: float, generator: torch.Generator, x: Tensor) -> Tensor:
    """Images under a Gaussian of each its own deviation, up to `most` pixels."""
    u = torch.rand(len(x), generator=generator, device=x.device)
    return blur(x, (most * (NARROWEST + (1 - NARROWEST) * u)).to(x.dtype))


class ThreeAugment(Trick):
    """Touvron et al. 2022, 2204.07118, section 3 (DeiT III)."""

    info: ClassVar = Info(
        name="three_augment",
        family="augment",
        summary="one of grey, solarized or blurred, then colour jitter",
        paper="Touvron, Cord, Jegou 2022, arXiv:2204.07118, section 3 (DeiT III)",
        formula=(
            "each image is made grey, solarized (1 - x where x >= 128 of 255) or blurred by a Gaussian of deviation "
            "U(sigma / 20, sigma) times the side, one of the three by chance; then brightness, contrast and saturation "
            "times U(1 - jitter, 1 + jitter) each"
        ),
        expect=(
            "In the paper better than RandAugment for vision transformers of long training on ImageNet, at less cost. "
            "A third of the images lose their colours and a third turns dark where it was bright: hard on small nets."
        ),
        differs=(
            "The blur is a share of the side, 2 pixels of 224 by default; jitter comes in a fixed order. Mirrors and "
            "crops are the recipe's. Grey images have nothing to lose to the first of the three."
        ),
        cost=1.03,
    )
    jitter: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.5)] = 0.3
    sigma: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.05)] = 0.009
    force: bool = False

    def prepare(self, run: Run) -> None:
        """Refuse images whose colours must stay."""
        check_colour("a grey or solarized image", run, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one of three for each image, and its jitter."""
        generator, n = run.rng(self.name), len(batch.x)
        most = self.sigma * batch.x.shape[-1]
        x = one_each(batch.x, [greyed, solarized, partial(blurred, most, generator)], run.numpy(self.name), generator)
        factors = 1 + self.jitter * (2 * torch.rand(3, n, generator=generator, device=x.device) - 1)
        for change, factor in zip((brightness, contrast, color), factors, strict=True):
            x = change(x, factor)
        return replace(batch, x=x)
