"""Decoupled distillation: the teacher's doubt about the target and its ranking of the others, weighed apart."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import MIXING, Batch, Info, NoEffect, Run, Search
from harness.tricks.taught import Taught


def decoupled(logits: Tensor, teacher: Tensor, target: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD), mean over the batch, for logits (N, K) and targets (N,).

    TCKD is the divergence of (p_t, 1 - p_t), NCKD that of the other classes among themselves; p of logits / T.
    """
    hot = F.one_hot(target, logits.shape[1]).bool()
    student, taught = (z / temperature for z in (logits, teacher))

    def binary(z: Tensor) -> Tensor:
        log_p = z.log_softmax(-1)
        own = log_p.masked_fill(~hot, 0.0).sum(-1)
        others = log_p.masked_fill(hot, -torch.inf).logsumexp(-1)
        return torch.stack((own, others), 1)

    target_part = F.kl_div(binary(student), binary(taught), reduction="batchmean", log_target=True)
    rest = [z.masked_fill(hot, -1e9).log_softmax(-1).masked_fill(hot, 0.0) for z in (student, taught)]
    others_part = (rest[1].exp() * ~hot * (rest[1] - rest[0])).sum(-1).mean()
    return temperature**2 * (alpha * target_part + beta * others_part)


class Dkd(Taught):
    """Zhao et al. 2022, 2203.08679, sections 3.1 and 3.2."""

    info: ClassVar = Info(
        name="dkd",
        family="distillation",
        summary="distil the doubt about the target and the other classes' order apart",
        paper="Zhao, Cui, Song, Qiu, Liang 2022, arXiv:2203.08679, sections 3.1 and 3.2",
        formula=(
            "L + r(t) T^2 (alpha KL(b^T || b^S) + beta KL(q^T || q^S)), b = (p_t, 1 - p_t), q the softmax of the other "
            "classes, p of logits / T; r rises from 0 to 1 over the first `warm` of training"
        ),
        expect=(
            "Classical distillation weighs the order of the other classes by 1 - p_t of the teacher, so least "
            "where it is sure. The paper gains one to three points over it on CIFAR-100. With few classes, or a "
            "teacher no better than the student, little; the teacher's training counts as this arm's cost."
        ),
        differs=(
            "The teacher is the wider baseline, as in knowledge_distillation. alpha = 1, beta = 8 and T = 4 are the "
            "paper's for CIFAR-100; the warm-up is its 20 of 240 epochs."
        ),
        cost=2.3,
        excludes={MIXING: "it needs one right class for each image"},
        eager="its weight grows from step to step",
    )
    alpha: Annotated[float, Field(ge=0), Search(0.1, 4.0, log=True)] = 1.0
    beta: Annotated[float, Field(ge=0), Search(0.5, 16.0, log=True)] = 8.0
    temperature: Annotated[float, Field(gt=0), Search(1.0, 20.0, log=True)] = 4.0
    warm: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.3)] = 0.083

    def prepare(self, run: Run) -> None:
        """Get the trained teacher."""
        if self.alpha == self.beta == 0:
            raise NoEffect("alpha = 0 and beta = 0 leave the loss as it is in the baseline")
        super().prepare(run)

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The decoupled loss against the teacher on the very pixels that the student saw."""
        with torch.no_grad(), run.autocast():
            teacher: Tensor = run.state[self.name]["teacher"](batch.x)
        strength = min(1.0, (run.step + 1) / (self.warm * run.total_steps)) if self.warm else 1.0
        loss = decoupled(logits, teacher.float(), batch.label, self.alpha, self.beta, self.temperature)
        return {"decoupled": strength * loss}
