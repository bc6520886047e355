"""Schedule-free SGD: an average of all weights takes the place of a falling learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from harness.tricks.contract import RATE, Groups, Info, Run, Schedule, Search
from harness.tricks.functional import constant, warmup
from harness.tricks.modules import plain_batches, recompute_statistics
from harness.tricks.optimizers import OwnOptimizer

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class ScheduleFreeSgd(Optimizer):
    """The network holds y, at which gradients are taken, the state z; the average is x = y + (y - z) (1 - b) / b."""

    def __init__(self, groups: Groups, **defaults: Any) -> None:
        super().__init__(groups, defaults)
        for group in self.param_groups:
            group.setdefault("peak", 0.0)
            group.setdefault("weights", 0.0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all weights that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if not self.state[p]:
                    self.state[p]["z"] = p.detach().clone()
            z = [self.state[p]["z"] for p in weights]
            gradients = [p.grad for p in weights if p.grad is not None]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            lr, beta = float(group["lr"]), group["beta"]
            group["peak"] = max(group["peak"], lr)
            group["weights"] += group["peak"] ** 2
            c = group["peak"] ** 2 / group["weights"] if group["weights"] else 0.0
            torch._foreach_lerp_(weights, z, c)
            torch._foreach_add_(weights, gradients, alpha=lr * (beta * (1 - c) - 1))
            torch._foreach_sub_(z, gradients, alpha=lr)
        return loss

    def average(self, weight: Tensor) -> Tensor:
        """What the average is of a weight that the network holds."""
        beta = next(g["beta"] for g in self.param_groups if any(p is weight for p in g["params"]))
        z = self.state[weight].get("z", weight)
        return torch.lerp(weight.detach(), z, 1 - 1 / beta)


class ScheduleFree(OwnOptimizer):
    """Defazio et al. 2024, 2405.15682, algorithm of section 2 with SGD.

    warmup: share of training in which the rate rises.
    """

    info: ClassVar = Info(
        name="schedule_free",
        family="optimization",
        summary="a constant rate, and an average of all weights in place of a schedule",
        paper="Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky 2024, arXiv:2405.15682",
        formula=(
            "y = (1 - b) z + b x, z = z - lr (grad L(y) + wd y), x = (1 - c) x + c z, c = lr^2 over the sum of all "
            "lr^2; "
            "x is evaluated"
        ),
        expect=(
            "As good as a schedule that was tuned to the length of the run, and good at any time before its end. Its "
            "rate is larger than a schedule's peak: search it. Very short runs leave the average behind the weights."
        ),
        differs=(
            "Batch statistics of the evaluated average come anew from the training images without augmentation. SGD "
            "only; the peak so far weighs the average, as in the authors' code."
        ),
        cost=1.05,
    )
    decay: ClassVar = "inside"
    lr: Annotated[float, Field(gt=0), Search(0.03, 10.0, log=True), RATE] = 1.0
    weight_decay: Annotated[float, Field(ge=0), Search(1e-5, 1e-2, log=True)] = 5e-4
    beta: Annotated[float, Field(gt=0, lt=1), Search(0.8, 0.98, log1m=True)] = 0.9
    warmup: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.2)] = 0.05

    def schedule(self, run: Run) -> Schedule:
        """A ramp, then nothing."""
        if not self.warmup:
            return constant()
        return warmup(constant(), self.warmup, 1 / run.total_steps, lambda done: done)

    def build(self, groups: Groups, run: Run, **common: Any) -> Optimizer:
        """The averaging optimizer."""
        return ScheduleFreeSgd(groups, beta=self.beta, **common)

    @torch.no_grad()
    def evaluation_weights(self, run: Run) -> Classifier:
        """The average with its own batch statistics."""
        optimizer = run.optimizer
        assert isinstance(optimizer, ScheduleFreeSgd)
        model: Classifier = copy.deepcopy(run.model)
        for mine, weight in zip(model.parameters(), run.model.parameters(), strict=True):
            if weight.requires_grad:
                mine.copy_(optimizer.average(weight))
        recompute_statistics(model, islice(plain_batches(run), 1 if run.rehearsal else None))
        return model
