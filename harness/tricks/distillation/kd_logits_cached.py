"""Knowledge distillation from logits that a teacher gave once for each training image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.experiment import RunSpec
from harness.tricks.contract import MIXING, Batch, Info, NoEffect, Run, Search, Trick
from harness.tricks.functional import distillation
from harness.tricks.stages import wider_baseline


class KdLogitsCached(Trick):
    """Hinton, Vinyals, Dean 2015, 1503.02531, with the teacher's logits stored beside the images."""

    info: ClassVar = Info(
        name="kd_logits_cached",
        family="distillation",
        summary="match a wider teacher's logits, stored once for each image",
        paper=(
            "Hinton, Vinyals, Dean 2015, arXiv:1503.02531; against storing logits Beyer, Zhai, Royer, Markeeva, Anil, "
            "Kolesnikov 2021, arXiv:2106.05237"
        ),
        formula=(
            "L = hard CE(y, z) + soft T^2 KL(softmax(r / T) || softmax(z / T)), r the frozen teacher's logits for the "
            "image without augmentation"
        ),
        expect=(
            "Cheaper than knowledge_distillation by a teacher's pass at every step, and level with it where there is "
            "no augmentation. Beyer et al. find stored logits clearly worse under strong crops, as the student must "
            "match what the teacher said of another picture. The teacher's training counts as this arm's cost."
        ),
        differs="the teacher, T = 4 and the weights are those of knowledge_distillation; it sees no augmented pixels",
        cost=1.0,
        version=2,
        excludes={
            "kd_plus_ood": "both replace the weight of the hard loss",
            "knowledge_distillation": "both replace the weight of the hard loss",
            MIXING: "stored logits are of single images",
        },
    )
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
        """Ask the teacher about every training image."""
        (teacher,) = self.needs(run.spec)
        index, order = run.train.index.to(run.device).sort()
        run.state[self.name] = {"index": index, "logits": run.stage(teacher).logits(run.train)[order]}

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The weight of the hard loss."""
        return logits.new_full((len(logits),), self.hard)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The soft loss against the stored logits."""
        stored = run.state[self.name]
        teacher = stored["logits"][torch.searchsorted(stored["index"], batch.index)]
        return {"soft": self.soft * distillation(logits, teacher, self.temperature)}
