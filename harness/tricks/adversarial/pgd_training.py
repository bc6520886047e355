"""PGD training: learn images attacked in several projected steps, and no clean ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, Run, Search, Trick, at
from harness.tricks.images import attack_radius, input_gradient
from harness.tricks.modules import mode

Norm = Literal["linf", "l2"]

L2_RADIUS = 0.5
"""Default radius of the L2 ball, in pixels of [0, 1]; usual for 32x32 colour images."""


def project(change: Tensor, eps: float, norm: Norm) -> Tensor:
    """The nearest point of each change (N, ...) in the ball of radius eps."""
    if norm == "linf":
        return change.clamp(-eps, eps)
    size: Tensor = torch.linalg.vector_norm(change.flatten(1), dim=1).view(-1, *[1] * (change.ndim - 1))
    return change * torch.clamp(eps / size.clamp(min=1e-12), max=1)


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The steepest ascent of unit length: sign g, or g / ||g||_2 for each example."""
    return gradient.sign() if norm == "linf" else F.normalize(gradient.flatten(1)).view_as(gradient)


class PgdTraining(Trick):
    """Madry et al. 2017, 1706.06083, section 2."""

    info: ClassVar = Info(
        name="pgd_training",
        family="adversarial",
        summary="learn images attacked in several projected steps",
        paper="Madry, Makelov, Schmidt, Tsipras, Vladu 2017, arXiv:1706.06083",
        formula=(
            "x' starts uniformly in the ball of radius eps around x; k times x' = clip(P(x' + step eps d), 0, 1), "
            "d = sign grad CE or grad / ||grad||_2, P the projection onto the ball; the loss is L(x')"
        ),
        expect=(
            "Helps accuracy under attack, and needs a wide net and long training for it. It costs clean accuracy: in "
            "the paper a wide ResNet on CIFAR-10 falls from 95 % to 87 %. On MNIST the clean cost is small. Judge it "
            "on attacked images, not on clean ones only."
        ),
        differs=(
            "k = 10 steps of eps / 4; the paper takes 7 on CIFAR-10. `attack_mode = 'eval'` crafts with running "
            "statistics, which costs less clean accuracy (Pang et al. 2020, arXiv:2010.00467). eps is in pixels of "
            "[0, 1]; by default 8/255 for colour images, 0.1 for grey ones and 0.5 in L2."
        ),
        cost=7.8,
        measured=(
            "A finding: +2.9 points [1.8, 4.1] on digits, +5.1 [3.5, 6.8] on noisy digits (n = 10), at 9.1 [8.3, "
            "10.0] times the step; see fgm_training, which gives as much for 2.1."
        ),
    )
    eps: Annotated[float | None, Field(ge=0), Search(1 / 255, 0.3, log=True), NoOp(0)] = None
    step: Annotated[float, Field(gt=0), Search(0.1, 1.0)] = 0.25
    k: Annotated[int, Field(ge=1), Search(1, 10)] = 10
    norm: Annotated[Norm, Choice(("linf", "l2"))] = "linf"
    start: Annotated[Literal["clean", "random"], Choice(("clean", "random"))] = "random"
    attack_mode: Annotated[Literal["eval", "train"], Choice(("eval", "train"))] = "eval"

    @at(BatchStage.ATTACK)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Attack every image."""
        x, g = batch.x, run.rng(self.name)
        eps = L2_RADIUS if self.norm == "l2" and self.eps is None else attack_radius(self.eps, run.data)
        attacked = x
        if self.start == "random":
            change = torch.rand(x.shape, generator=g, device=x.device) * 2 - 1
            if self.norm == "l2":
                # Uniform in the ball: any direction, and a radius whose d-th power is uniform.
                way = F.normalize(torch.randn(x.shape, generator=g, device=x.device).flatten(1)).view_as(x)
                radius = torch.rand(len(x), 1, 1, 1, generator=g, device=x.device) ** (1 / x[0].numel())
                change = way * radius
            attacked = (x + eps * change).clamp(0, 1)
        with mode(run.model, self.attack_mode == "train"):
            for _ in range(self.k):
                gradient = input_gradient(run, attacked, batch.y)
                change = attacked + self.step * eps * direction(gradient, self.norm) - x
                attacked = (x + project(change, eps, self.norm)).clamp(0, 1)
        return replace(batch, x=attacked)
