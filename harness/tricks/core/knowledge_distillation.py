"""Knowledge distillation: learn from the softened predictions of a wider net that was trained before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.experiment import RunSpec
from harness.tricks.contract import Batch, Info, NoEffect, Run, Search, Trick
from harness.tricks.functional import distillation
from harness.tricks.stages import wider_baseline


class KnowledgeDistillation(Trick):
    """Hinton, Vinyals, Dean 2015, 1503.02531, section 2.

    The teacher is the experiment's baseline on the same data and seed, with `teacher_width_factor` times the
    channels and `teacher_epochs_factor` times the epochs. `hard` and `soft` weigh the two losses.
    """

    info: ClassVar = Info(
        name="knowledge_distillation",
        family="core",
        summary="match the softened predictions of a wider teacher",
        paper=("Hinton, Vinyals, Dean 2015, arXiv:1503.02531; recipe for image nets He et al. 2018, arXiv:1812.01187"),
        formula=("L = hard CE(y, z) + soft T^2 KL(softmax(r / T) || softmax(z / T)), r the frozen teacher's logits"),
        expect=(
            "Helps a small net with a clearly better teacher, on many classes most. A teacher that is no "
            "better, or that memorised wrong labels, adds little. The teacher's training counts as this "
            "arm's cost."
        ),
        differs=(
            "KL where the paper has cross-entropy: the same gradient. Weights 0.1 and 0.9 and T = 4 are "
            "common on small images; He et al. use 1, 1 and T = 20."
        ),
        cost=2.3,  # a teacher of twice the width has four times the forward pass, a third of a step each
        version=2,
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
        """Get the trained teacher."""
        (teacher,) = self.needs(run.spec)
        run.state[self.name] = run.stage(teacher).network()

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The weight of the hard loss."""
        return logits.new_full((len(logits),), self.hard)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The soft loss against the teacher on the very pixels that the student saw."""
        with torch.no_grad(), run.autocast():
            teacher: Tensor = run.state[self.name](batch.x)
        return {"soft": self.soft * distillation(logits, teacher.float(), self.temperature)}
