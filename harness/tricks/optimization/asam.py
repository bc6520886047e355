"""Adaptive sharpness-aware minimisation: the worst point nearby, measured in each weight's own size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Info, NoOp, Passes, Run, Search, Trick, at
from harness.tricks.passes import gradient_elsewhere


@torch.no_grad()
def ascend(parameters: list[Tensor], rho: float, eta: float) -> None:
    """Move the parameters by rho T^2 g / ||T g||, T = |w| + eta.

    The step does not depend on the scale of g, so a scaled loss needs no unscaling here.
    """
    sizes = torch._foreach_add(torch._foreach_abs(parameters), eta)
    scaled = torch._foreach_mul(sizes, [p.grad for p in parameters if p.grad is not None])
    # The floor serves gradients of zero; infinite ones give NaN, which a gradient scaler then finds.
    length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(scaled))).clamp(min=1e-12)
    torch._foreach_mul_(scaled, sizes)
    torch._foreach_add_(parameters, torch._foreach_mul(scaled, rho / length))


class Asam(Trick):
    """Kwon et al. 2021, 2102.11600, algorithm 1."""

    info: ClassVar = Info(
        name="asam",
        family="optimization",
        summary="take the gradient at the worst point nearby, each weight measured by its size",
        paper="Kwon, Kim, Park, Choi 2021, arXiv:2102.11600",
        formula="g = grad L(w + rho T^2 grad L(w) / ||T grad L(w)||), T = |w| + eta; w moves by the optimizer's step",
        expect=(
            "As SAM, at twice the time, and indifferent to how layers share their scale. The paper's rho is ten times "
            "SAM's: 0.5 for CIFAR-10, 1 for CIFAR-100."
        ),
        differs=(
            "T is |w| + eta in every parameter; the authors' code has 1 for biases and norms. Running statistics of "
            "batch normalisation follow the first pass only. The first pass's loss is the one reported."
        ),
        cost=2.0,
    )
    rho: Annotated[float, Field(ge=0), Search(0.1, 4.0, log=True), NoOp(0)] = 0.5
    eta: Annotated[float, Field(ge=0), Search(1e-3, 0.1, log=True)] = 0.01

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Climb, take the gradient there, and come back."""
        return gradient_elsewhere(lambda weights: ascend(weights, self.rho, self.eta), closure, batch, run)
