"""NAdamW: AdamW with Nesterov's momentum."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


class Nadamw(OwnOptimizer):
    """Dozat 2016, algorithm 2, with the decay of Loshchilov & Hutter 2017, 1711.05101."""

    info: ClassVar = Info(
        name="nadamw",
        family="optimization",
        summary="AdamW with Nesterov's momentum",
        paper=(
            "Dozat 2016, ICLR workshop; decay: Loshchilov, Hutter 2017, arXiv:1711.05101; as baseline: Dahl et al. "
            "2023, arXiv:2306.07179"
        ),
        formula=(
            "w = (1 - lr wd) w - lr (mu_(t+1) m + (1 - mu_t) g) / (sqrt(v) + eps), bias-corrected, mu_t = b1 (1 - "
            "0.96^(0.004 t) / 2)"
        ),
        expect=(
            "The baseline of AlgoPerf's benchmark, where it is a little ahead of AdamW over many tasks. On small nets"
            " expect what AdamW gives."
        ),
        differs=("torch's, with its warm-up of the momentum, mu_t; eps = 1e-8; the schedule is the recipe's"),
    )
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True), RATE] = 0.002
    weight_decay: Annotated[float, Field(ge=0), Search(1e-3, 0.3, log=True)] = 0.05
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.999, log1m=True)] = 0.999

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of torch."""
        betas = (self.beta1, self.beta2)
        return torch.optim.NAdam(groups, betas=betas, decoupled_weight_decay=True, **common)
