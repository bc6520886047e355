"""FGSM training: learn clean images and images moved one step up the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Choice, Info, NoOp, Passes, Run, Search, Trick, at
from harness.tricks.images import attack_radius, input_gradient
from harness.tricks.modules import frozen_statistics

OVERSHOOT = 1.25
"""Step over radius after a random start, where a step of the radius would not use it up (Wong et al. 2020)."""


def signed_step(x: Tensor, start: Tensor, gradient: Tensor, step: float, eps: float) -> Tensor:
    """From `start`, by `step` along the gradient's sign, back to within `eps` of x and into [0, 1]."""
    change = (start - x + step * gradient.sign()).clamp(-eps, eps)
    return (x + change).clamp(0, 1)


class FgsmTraining(Trick):
    """Goodfellow, Shlens, Szegedy 2014, 1412.6572, sections 4 and 6."""

    info: ClassVar = Info(
        name="fgsm_training",
        family="adversarial",
        summary="learn clean images and images attacked in one step",
        paper=(
            "Goodfellow, Shlens, Szegedy 2014, arXiv:1412.6572; random start Wong, Rice, Kolter 2020, arXiv:2001.03994"
        ),
        formula=(
            "mix L(x) + (1 - mix) L(x'), x' = clip(x + eps sign grad_x CE(x), 0, 1); with a random start u, uniform in "
            "±eps: x' = clip(x + clip(u + 1.25 eps sign grad_x CE(x + u), -eps, eps), 0, 1)"
        ),
        expect=(
            "Helps accuracy under attacks of one step; the paper also found less clean error on MNIST (0.94 % to "
            "0.84 %), with maxout nets and no convolutions. On natural images clean accuracy falls with eps. A net "
            "may learn to fool the single step and stay open to several (catastrophic overfitting)."
        ),
        differs=(
            "The attack is on the cross-entropy of the targets as they are, mixed or smoothed. Running statistics of "
            "batch normalisation follow the clean pass, or the attacked one when mix = 0. eps is in pixels of [0, 1]; "
            "by default 8/255 for colour and 0.1 for grey images (the paper has 0.25 for MNIST)."
        ),
        cost=2.7,
        measured=(
            "A finding: +2.8 points [1.5, 4.2] on digits, +5.6 [4.5, 6.7] on noisy digits (n = 10); see fgm_training."
        ),
    )
    eps: Annotated[float | None, Field(ge=0, le=1), Search(1 / 255, 0.3, log=True), NoOp(0)] = None
    mix: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.9)] = 0.5
    start: Annotated[Literal["clean", "random"], Choice(("clean", "random"))] = "clean"

    def attack(self, batch: Batch, run: Run) -> Batch:
        """The batch with attacked images."""
        x, eps = batch.x, attack_radius(self.eps, run.data)
        noise = 2 * torch.rand(x.shape, generator=run.rng(self.name), device=x.device) - 1
        random = self.start == "random"
        start = (x + eps * noise).clamp(0, 1) if random else x
        gradient = input_gradient(run, start, batch.y)
        return replace(batch, x=signed_step(x, start, gradient, eps * (OVERSHOOT if random else 1), eps))

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Attack, then take the gradient of the mixture of both losses."""
        attacked = self.attack(batch, run)
        if self.mix == 0:
            loss = closure(attacked)
            run.backward(loss)
            return loss.detach()
        clean = closure(batch)
        run.backward(self.mix * clean)
        with frozen_statistics(run.model):
            loss = closure(attacked)
            run.backward((1 - self.mix) * loss)
        return self.mix * clean.detach() + (1 - self.mix) * loss.detach()
