"""KD+: distil on synthetic images outside the training distribution beside the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.experiment import RunSpec
from harness.tricks.contract import Batch, Choice, Info, NoEffect, Run, Search, Trick
from harness.tricks.functional import distillation, mix, table
from harness.tricks.images import box_mask
from harness.tricks.modules import frozen_statistics
from harness.tricks.stages import wider_baseline

Synthesis = Literal["mixup", "cutmix", "noise"]


def synthetic(x: Tensor, partner: Tensor, weight: Tensor, place: Tensor, noise: Tensor, source: Synthesis) -> Tensor:
    """Images that no camera took, from images x (N, C, H, W).

    mixup: weight x_i + (1 - weight) x_j, j = partner; cutmix: a box of x_j with area 1 - weight of the image and its
    upper left corner at `place`, (N, 2) in [0, 1), of the room that there is; noise: the noise, as x. weight: (N,).
    """
    if source == "noise":
        return noise
    if source == "mixup":
        return mix(x, partner, weight)
    size = table(tuple(x.shape[-2:]), partner)
    sides = ((1 - weight[:, None]).sqrt() * size).round().long()
    corner = (place * (size - sides + 1)).long()
    box = box_mask(corner[:, 0], corner[:, 1], sides[:, 0], sides[:, 1], (x.shape[-2], x.shape[-1]))
    return torch.where(box[:, None], x[partner], x)


class KdPlusOod(Trick):
    """Deng & Zhang 2021, "Can students outperform teachers in knowledge distillation based model compression?"."""

    info: ClassVar = Info(
        name="kd_plus_ood",
        family="distillation",
        summary="distil on mixed or noise images beside the batch",
        paper="Deng, Zhang 2021, OpenReview XZDeL25T12l; distillation Hinton, Vinyals, Dean 2015, arXiv:1503.02531",
        formula=(
            "L = hard CE(y, z) + soft [KD(x) + ratio KD(x')], KD = T^2 KL(softmax(r / T) || softmax(z / T)), r the "
            "frozen teacher's logits on the same pixels, x' synthetic images without labels"
        ),
        expect=(
            "The paper reports students that come closer to the teacher, or pass it, when they match it off the data "
            "too. Gains when the training split is small against what the teacher knows; nothing from a teacher that "
            "is no better. The teacher's training counts as this arm's cost; compare with knowledge_distillation plus "
            "mixup, which sees mixed images as well."
        ),
        differs=(
            "The paper synthesises its images in its own way; here they are mixup with weights uniform in [0, 1], "
            "boxes of CutMix inside the image, or uniform noise. The student's pass on them normalises by their own "
            "statistics and leaves running ones alone. Other values are those of knowledge_distillation."
        ),
        cost=4.5,  # two passes of the student, and two of a teacher that costs four forward passes each
        version=2,
        excludes={
            "kd_logits_cached": "both replace the weight of the hard loss",
            "knowledge_distillation": "both replace the weight of the hard loss",
        },
    )
    ratio: Annotated[float, Field(ge=0), Search(0.0, 4.0)] = 1.0
    source: Annotated[Synthesis, Choice(("mixup", "cutmix", "noise"))] = "mixup"
    temperature: Annotated[float, Field(gt=0), Search(1.0, 20.0, log=True)] = 4.0
    hard: Annotated[float, Field(ge=0), Search(0.0, 1.0)] = 0.1
    soft: Annotated[float, Field(ge=0), Search(0.1, 1.0)] = 0.9
    teacher_width_factor: Annotated[int, Field(ge=1)] = 2
    teacher_epochs_factor: Annotated[int, Field(ge=1)] = 1

    def needs(self, spec: RunSpec) -> Sequence[RunSpec]:
        """The teacher."""
        if (self.hard, self.soft) == (1, 0):
            raise NoEffect("hard = 1 and soft = 0 leave the loss as it is in the baseline")
        return (wider_baseline(spec, self.teacher_width_factor, self.teacher_epochs_factor),)

    def prepare(self, run: Run) -> None:
        """Get the trained teacher."""
        (teacher,) = self.needs(run.spec)
        run.state[self.name] = run.stage(teacher).network()

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The weight of the hard loss."""
        return logits.new_full((len(logits),), self.hard)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The soft losses on the student's own pixels and on synthetic ones."""
        outside = self._outside(batch.x, run)
        with run.autocast():
            with frozen_statistics(run.model):
                student: Tensor = run.model(outside)
            with torch.no_grad():
                teacher: Tensor = run.state[self.name](torch.cat((batch.x, outside)))
        inside, off = teacher.float().chunk(2)
        return {
            "soft": self.soft * distillation(logits, inside, self.temperature),
            "outside": self.soft * self.ratio * distillation(student.float(), off, self.temperature),
        }

    def _outside(self, x: Tensor, run: Run) -> Tensor:
        g, n = run.rng(self.name), len(x)
        partner = torch.randperm(n, generator=g, device=x.device)
        u = torch.rand(n, 3, generator=g, device=x.device)
        noise = torch.rand(x.shape, generator=g, device=x.device)
        return synthetic(x, partner, u[:, 0], u[:, 1:], noise, self.source)
