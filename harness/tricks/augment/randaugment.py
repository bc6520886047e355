"""RandAugment: a few random operations on each image, all as strong as one number says."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at
from harness.tricks.operations import one_each
from harness.tricks.policies import RAND, TIMM, bearable, changes

SPACES = {"paper": RAND, "timm": TIMM}
MOST = {"paper": 30.0, "timm": 10.0}
"""The magnitude at which an operation goes as far as its scale."""


class RandAugment(Trick):
    """Cubuk et al. 2019, 1909.13719, section 3."""

    info: ClassVar = Info(
        name="randaugment",
        family="augment",
        summary="a few random operations on each image, of one strength",
        paper="Cubuk, Zoph, Shlens, Le 2019, arXiv:1909.13719, section 3; noise of the magnitude: timm",
        formula=(
            "n times: x = o(x, m), o drawn from K operations for each image, m = magnitude of 30 (paper) or of 10 "
            "(timm), to either side where an operation has two; with std, m ~ N(magnitude, std) within its ends; with "
            "p below 1, x stays with probability 1 - p"
        ),
        expect=(
            "Helps large nets in long training: about 0.6 points of a ResNet-18 on CIFAR-10 and 8 against its "
            "corruptions. Costs nets that underfit or train briefly; smaller ones want a smaller magnitude. Many small "
            "operations: on one CPU thread a step takes 1.8 times as long with the network for digits, and 1.00 times "
            "with a ResNet-18 at 32 pixels."
        ),
        differs=(
            "Resampling is bilinear and fills with black, on the CPU in single precision; the paper's code takes the "
            "nearest pixel and fills with grey, timm with the mean colour. Enhancing starts from the image in both "
            "spaces (torchvision, timm's inc1), while in the paper a low level blurs or pales most. paper: 14 "
            "operations, identity among them, each of n applied; timm: 15, with invert and an addition to dark pixels, "
            "each applied with probability 1/2. Images that bear less than photographs are moved and turned no "
            "further than that, and grey ones have no saturation."
        ),
        cost=1.2,
    )
    n: Annotated[int, Field(ge=0, le=10), Search(1, 4), NoOp(0)] = 2
    magnitude: Annotated[float, Field(ge=0, le=30), Search(1.0, 10.0)] = 9.0
    std: Annotated[float, Field(ge=0), Search(0.0, 1.0)] = 0.0
    p: Annotated[float | None, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = None
    space: Annotated[Literal["paper", "timm"], Choice(("paper", "timm"))] = "paper"
    force: bool = False

    @model_validator(mode="after")
    def _within(self) -> RandAugment:
        if self.magnitude > MOST[self.space]:
            raise ValueError(
                f"magnitude = {self.magnitude:g} is more than {MOST[self.space]:g}, where space = '{self.space}' ends"
            )
        return self

    def level(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Strengths (N,) from 0 to 1."""
        noise = torch.randn(len(x), generator=generator, device=x.device)
        return ((self.magnitude + self.std * noise) / MOST[self.space]).clamp(0, 1)

    def prepare(self, run: Run) -> None:
        """Refuse images on which no operation may act."""
        bearable(SPACES[self.space], run.data, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw an operation and its strength for each image, n times."""
        host, generator, x = run.numpy(self.name), run.rng(self.name), batch.x
        operations = changes(
            bearable(SPACES[self.space], run.data, self.force), lambda z: self.level(z, generator), generator
        )
        p = self.p if self.p is not None else 1.0 if self.space == "paper" else 0.5
        choices = [*operations, lambda z: z]
        chances = [*[p / len(operations)] * len(operations), 1 - p]
        for _ in range(self.n):
            x = one_each(x, choices, host, generator, chances)
        return replace(batch, x=x)
