"""LARS: SGD with momentum whose rate is scaled in each layer by the ratio of weights to gradient."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


class Lars(OwnOptimizer):
    """You, Gitman & Ginsburg 2017, 1708.03888, algorithm 1."""

    info: ClassVar = Info(
        name="lars",
        family="optimization",
        summary="SGD with a rate for each layer, by the ratio of weights to gradient",
        paper="You, Gitman, Ginsburg 2017, arXiv:1708.03888",
        formula=(
            "v = mu v + lr eta |w| / (|g| + wd |w|) (g + wd w), w = w - v in each tensor; eta is the trust coefficient"
        ),
        expect=(
            "Made for batches of 8,000 and more, where a plain rate diverges. At small batches a tuned SGD is level. "
            "The rate counts in multiples of eta, so it is far above SGD's."
        ),
        differs="timm's: tensors without weight decay take plain steps, without trust; the rate enters after momentum",
        cost=1.1,
    )
    decay: ClassVar = "inside"
    lr: Annotated[float, Field(gt=0), Search(0.1, 30.0, log=True), RATE] = 2.0
    weight_decay: Annotated[float, Field(gt=0), Search(1e-5, 1e-2, log=True)] = 5e-4
    momentum: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.99, log1m=True)] = 0.9
    trust: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True)] = 1e-3

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of timm."""
        from timm.optim.lars import Lars as Library

        built: torch.optim.Optimizer = Library(groups, momentum=self.momentum, trust_coeff=self.trust, **common)
        return built
