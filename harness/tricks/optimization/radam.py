"""RAdam: Adam that trusts its second moment only once enough gradients are in it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


class Radam(OwnOptimizer):
    """Liu et al. 2019, 1908.03265, algorithm 2."""

    info: ClassVar = Info(
        name="radam",
        family="optimization",
        summary="Adam with the variance of its early steps rectified",
        paper="Liu et al. 2019, arXiv:1908.03265",
        formula=(
            "rho_t = rho - 2 t b2^t / (1 - b2^t), rho = 2 / (1 - b2) - 1; w = w - lr r_t m / (sqrt(v) + eps) when "
            "rho_t > 5, else w - lr m"
        ),
        expect=(
            "Takes the place of a warm-up: equal to Adam after some 1 / (1 - b2) updates. In trainings shorter than "
            "that it is mostly SGD with momentum at Adam's small rate."
        ),
        differs=(
            "weight decay is decoupled, as in the authors' code; `optimizer_choice` has a coupled one; torch's "
            "threshold is 5, the paper's 4"
        ),
    )
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True), RATE] = 0.001
    weight_decay: Annotated[float, Field(ge=0), Search(1e-3, 0.3, log=True)] = 0.05
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.999, log1m=True)] = 0.999

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of torch."""
        betas = (self.beta1, self.beta2)
        return torch.optim.RAdam(groups, betas=betas, decoupled_weight_decay=True, **common)
