"""AdaBound: Adam whose step sizes are squeezed between bounds that close in on a constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


def bounds(final: float, gamma: float, t: int) -> tuple[float, float]:
    """Least and largest step size at update t = 1, 2, ...; both tend to `final`."""
    return final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))


class Bounded(Optimizer):
    """Adam with clipped step sizes. `final_lr` belongs to the rate `base_lr`, and follows a group's `lr` from there."""

    def __init__(self, groups: Groups, **defaults: Any) -> None:
        super().__init__(groups, defaults)
        for group in self.param_groups:
            group.setdefault("updates", 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["updates"] += 1
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if weights:
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for p in weights:
            if not self.state[p]:
                self.state[p].update(m=torch.zeros_like(p), v=torch.zeros_like(p))
        m, v = ([self.state[p][key] for p in weights] for key in "mv")
        gradients = [p.grad for p in weights if p.grad is not None]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        (beta1, beta2), t = group["betas"], group["updates"]
        torch._foreach_lerp_(m, gradients, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - beta2)

        low, high = bounds(group["final_lr"] * group["lr"] / group["base_lr"], group["gamma"], t)
        rates = torch._foreach_sqrt(v)
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t))
        torch._foreach_clamp_min_(rates, low)
        torch._foreach_clamp_max_(rates, high)
        torch._foreach_addcmul_(weights, rates, m, -1.0)


class Adabound(OwnOptimizer):
    """Luo et al. 2019, 1902.09843, algorithm 2."""

    info: ClassVar = Info(
        name="adabound",
        family="optimization",
        summary="Adam whose step sizes are bounded ever closer around a constant rate",
        paper="Luo, Xiong, Liu, Sun 2019, arXiv:1902.09843",
        formula=(
            "w = w - clip(lr sqrt(1 - b2^t) / ((1 - b1^t) (sqrt(v) + eps)), low_t, high_t) m; low_t = f (1 - 1 / "
            "(gamma t + 1)), high_t = f (1 + 1 / (gamma t)); m, v running means of g, g^2; f = final_lr times what the "
            "schedule and other tricks make of lr"
        ),
        expect=(
            "Starts as Adam and ends as SGD with momentum, after some 1 / gamma updates. The paper gains over Adam "
            "and reaches tuned SGD on CIFAR-10; later comparisons find no gain over either when both are tuned. "
            "Runs much shorter than 1 / gamma need a larger gamma."
        ),
        differs=(
            "As the authors' code: bias correction, no division by sqrt(t), and bounds that follow the rate. "
            "Weight decay is coupled; eps = 1e-8."
        ),
        cost=1.1,
    )
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True), RATE] = 1e-3
    final_lr: Annotated[float, Field(gt=0), Search(1e-2, 1.0, log=True), RATE] = 0.1
    gamma: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-6, 1e-2, log=True)] = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.5, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.9999, log1m=True)] = 0.999

    def build(self, groups: Groups, run: Run, **common: Any) -> Optimizer:
        """The bounded Adam."""
        own = {"base_lr": self.lr, "final_lr": self.final_lr, "gamma": self.gamma, "betas": (self.beta1, self.beta2)}
        return Bounded(groups, eps=1e-8, **own, **common)
