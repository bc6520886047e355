"""Larger batches in place of lower learning rates."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch.optim import Optimizer

from harness.tricks.contract import Info, NoEffect, Run, Schedule, Search, Trick


class BatchSizeSchedule(Trick):
    """Smith, Kindermans, Ying & Le 2017, 1711.00489, section 4.

    limit: how many of the recipe's batches an update takes at most.
    """

    info: ClassVar = Info(
        name="batch_size_schedule",
        family="optimization",
        summary="let the batch grow where the learning rate would fall",
        paper="Smith, Kindermans, Ying, Le 2017, arXiv:1711.00489",
        formula=(
            "where the schedule would multiply the rate by f <= 1, an update takes k = min(limit, floor(1 / f)) "
            "batches "
            "and the rate's factor is k f, so rate / batch, the scale of the noise, is the schedule's"
        ),
        expect=(
            "The paper keeps the accuracy of the decaying rate with far fewer updates, which saves time where a large "
            "batch is computed in parallel. One card gains no time, and a short run has few updates left."
        ),
        differs=(
            "Large batches are made of k small ones, whose gradients are averaged: normalisation sees the small "
            "batches, clipping acts on each, and images a second stay as they are. Batches that are left at the end of "
            "training are dropped. The paper bounds the batch at a tenth of the training set, `limit` at a multiple."
        ),
        eager="only some passes are followed by an update",
    )
    limit: Annotated[int, Field(ge=2), Search(2, 32, log=True)] = 10

    def wrap_schedule(self, schedule: Schedule, run: Run) -> Schedule:
        """What of the fall is left to the rate."""
        factors = [schedule(t / run.total_steps) for t in range(run.total_steps)]
        if all(self.batches(f) == 1 for f in factors):
            raise NoEffect("the schedule never halves the rate, so no batch would grow; set recipe.schedule")
        run.state[self.name] = {"k": [self.batches(f) for f in factors], "seen": 0, "sums": []}
        return lambda progress: self.batches(schedule(progress)) * schedule(progress)

    def batches(self, factor: float) -> int:
        """How many batches an update takes where the schedule's factor is this one."""
        return max(1, min(self.limit, int(1 / factor + 1e-9) if factor > 0 else self.limit))

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Hold gradients back until enough batches were seen."""

        @torch.no_grad()
        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            state = run.state[self.name]
            weights = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in weights]
            if state["seen"]:
                torch._foreach_add_(gradients, state["sums"])
            state["seen"] += 1
            if state["seen"] < state["k"][run.step]:
                state["sums"] = gradients
                for p in weights:
                    p.grad = None  # no optimizer moves a weight without a gradient
            else:
                torch._foreach_div_(gradients, state["seen"])
                state["seen"], state["sums"] = 0, []

        optimizer.register_step_pre_hook(before)
        return optimizer
