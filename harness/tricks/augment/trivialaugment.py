"""TrivialAugment: one random operation of a random strength on each image."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, Run, Search, Trick, at
from harness.tricks.operations import one_each
from harness.tricks.policies import RAND, WIDE, Space, bearable, changes

STRENGTHS = 31


class TrivialAugment(Trick):
    """Müller & Hutter 2021, 2103.10158, section 3."""

    info: ClassVar = Info(
        name="trivialaugment",
        family="augment",
        summary="one random operation of random strength on each image",
        paper="Müller, Hutter 2021, arXiv:2103.10158, section 3 and table 6",
        formula="x = o(x, m), o drawn from 14 operations and m from 31 strengths, both evenly and for each image",
        expect=(
            "As good as tuned policies for photographs and long training, without a number to tune: 2 points over "
            "cutout on CIFAR-100 with a wide network. Costs small nets and short training. On one CPU thread a step "
            "takes 1.5 times as long with the network for digits, and 1.00 times with a ResNet-18 at 32 pixels."
        ),
        differs=(
            "Resampling is bilinear and fills with black; the paper's code takes the nearest pixel. Enhancing goes to "
            "either side of the image. wide moves by up to 1/7 of the side, which is the paper's 32 pixels of 224; on "
            "CIFAR it moves a whole side (translate = 1). Images that bear less than photographs are moved and turned "
            "no further than that, and grey ones have no saturation."
        ),
        cost=1.1,
    )
    space: Annotated[Literal["wide", "rand"], Choice(("wide", "rand"))] = "wide"
    translate: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.143
    force: bool = False

    def operations(self, run: Run) -> Space:
        """Those that may act on the run's images."""
        published = dict(WIDE if self.space == "wide" else RAND)
        if self.space == "wide":
            published |= {name: published[name]._replace(end=self.translate) for name in ("translate_x", "translate_y")}
        return bearable(published, run.data, self.force)

    def prepare(self, run: Run) -> None:
        """Refuse images on which no operation may act."""
        self.operations(run)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw an operation and its strength for each image."""
        generator = run.rng(self.name)

        def level(x: Tensor) -> Tensor:
            return torch.randint(STRENGTHS, (len(x),), generator=generator, device=x.device) / (STRENGTHS - 1)

        operations = changes(self.operations(run), level, generator)
        return replace(batch, x=one_each(batch.x, operations, run.numpy(self.name), generator))
