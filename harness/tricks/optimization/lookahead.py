"""Lookahead: slow weights follow the fast ones every k updates, and the fast ones restart from there."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, Run, Search, Trick


class Lookahead(Trick):
    """Zhang et al. 2019, 1907.08610, algorithm 1."""

    info: ClassVar = Info(
        name="lookahead",
        family="optimization",
        summary="every k updates go back part of the way",
        paper="Zhang, Lucas, Hinton, Ba 2019, arXiv:1907.08610",
        formula="every k updates: slow = slow + alpha (fast - slow), fast = slow",
        expect=(
            "Lowers the variance of the steps, so it bears larger rates and poorly tuned ones. The paper gains a "
            "little "
            "on CIFAR and ImageNet; against a tuned decay of the rate expect nothing."
        ),
        differs=(
            "Slow weights start as the initial ones, as in the paper; timm's start at the first synchronisation. "
            "Inner momentum is kept. Evaluated are the weights of the moment, up to k - 1 updates past the slow ones"
        ),
        eager="every k-th update does more than the others",
        cost=1.02,
    )
    k: Annotated[int, Field(ge=1), Search(2, 20, log=True)] = 5
    alpha: Annotated[float, Field(gt=0, lt=1), Search(0.2, 0.8)] = 0.5

    def prepare(self, run: Run) -> None:
        """Keep the initial weights."""
        run.state[self.name] = [p.detach().clone() for p in run.model.parameters()]

    @torch.no_grad()
    def after_step(self, run: Run) -> None:
        """Synchronise every k updates."""
        if run.step % self.k == 0:
            slow: list[Tensor] = run.state[self.name]
            fast: list[Tensor] = list(run.model.parameters())
            torch._foreach_lerp_(slow, fast, self.alpha)
            torch._foreach_copy_(fast, slow)
