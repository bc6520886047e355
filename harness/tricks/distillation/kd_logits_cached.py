"""Knowledge distillation from logits that a teacher gave once for each training image."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import MIXING, Batch, Info, NoEffect, Run, Search, Trick, at_once
from harness.tricks.functional import distillation
from harness.tricks.modules import wider_baseline

CHUNK = 500
"""Images in one pass of the teacher at most."""


@torch.no_grad()
def logits_of(teacher: torch.nn.Module, run: Run) -> Tensor:
    """The teacher's logits (N, K) for the training images as they are, without augmentation."""
    parts: list[Tensor] = []
    rows = run.train.rows
    for at in torch.split(torch.arange(len(rows)), at_once(rows.side, CHUNK, run.device)):
        if run.rehearsal and parts:  # those of the first images, which stand for all
            parts.append(parts[0][: len(at)])
            continue
        images = rows.take(at)
        with run.autocast():
            parts.append(teacher(images.to(run.device).permute(0, 3, 1, 2).float() / run.train.peak).float())
    return torch.cat(parts)


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

    def prepare(self, run: Run) -> None:
        """Ask the teacher about every training image, and forget the teacher."""
        if (self.hard, self.soft) == (1, 0):
            raise NoEffect("hard = 1 and soft = 0 leave the loss as it is in the baseline")
        spec = wider_baseline(run, self.teacher_width_factor, self.teacher_epochs_factor)
        logits = logits_of(run.train_other(spec).to(run.device).eval(), run)
        index, order = run.train.index.to(run.device).sort()
        run.state[self.name] = {"index": index, "logits": logits[order]}

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The weight of the hard loss."""
        return logits.new_full((len(logits),), self.hard)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The soft loss against the stored logits."""
        stored = run.state[self.name]
        teacher = stored["logits"][torch.searchsorted(stored["index"], batch.index)]
        return {"soft": self.soft * distillation(logits, teacher, self.temperature)}
