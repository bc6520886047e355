"""Sharpness-aware minimisation: the gradient at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Info, NoOp, Passes, Run, Search, Trick, at
from harness.tricks.functional import gradient_norm
from harness.tricks.passes import gradient_elsewhere


@torch.no_grad()
def ascend(parameters: list[Tensor], rho: float) -> None:
    """Move the parameters by rho g / ||g||.

    The step does not depend on the scale of g, so a scaled loss needs no unscaling here.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    # The floor serves gradients of zero; infinite ones give NaN, which a gradient scaler then finds.
    scale = rho / gradient_norm(parameters).clamp(min=1e-12)
    torch._foreach_add_(parameters, torch._foreach_mul(gradients, scale))


class Sam(Trick):
    """Foret et al. 2020, 2010.01412, algorithm 1."""

    info: ClassVar = Info(
        name="sam",
        family="optimization",
        summary="take the gradient at the worst point nearby",
        paper="Foret, Kleiner, Mobahi, Neyshabur 2020, arXiv:2010.01412",
        formula=(
            "g = grad L(w + rho grad L(w) / ||grad L(w)||) on the same batch; w moves by the optimizer's step with g"
        ),
        expect=(
            "Helps generalisation in long training, without a pretrained start and under label noise, at "
            "twice the time: compare it with a baseline of twice the epochs too. The paper uses rho 0.05 "
            "for CIFAR-10 and 0.1 for CIFAR-100."
        ),
        differs=(
            "Weights are put back from a copy, to the bit. Running statistics of batch normalisation follow "
            "the first pass only; dropout draws another mask in the second. The first pass's loss is the "
            "one reported."
        ),
        cost=2.0,
    )
    rho: Annotated[float, Field(ge=0), Search(0.01, 0.5, log=True), NoOp(0)] = 0.05

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Climb, take the gradient there, and come back."""
        return gradient_elsewhere(lambda weights: ascend(weights, self.rho), closure, batch, run)
