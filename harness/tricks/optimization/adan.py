"""Adan: Adam with Nesterov's momentum from differences of gradients."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


class Adan(OwnOptimizer):
    """Xie et al. 2022, 2208.06677, algorithm 1."""

    info: ClassVar = Info(
        name="adan",
        family="optimization",
        summary="Adam with Nesterov's momentum, estimated from differences of gradients",
        paper="Xie, Zhou, Li, Lin, Yan 2022, arXiv:2208.06677",
        formula=(
            "m, d, n: bias-corrected means of g, of the change of g, and of (g + b2 change)^2, with b1, b2, b3 to "
            "remember; w = (w - lr (m + b2 d) / (sqrt(n) + eps)) / (1 + lr wd)"
        ),
        expect=(
            "The paper trains ViT, ConvNeXt and ResNet to AdamW's accuracy in fewer epochs, and bears larger rates. "
            "Compare at each one's own tuned rate."
        ),
        differs=(
            "the authors' code, as timm has it: betas weigh what is remembered, the paper's what is new; no restart"
        ),
        cost=1.1,
    )
    decay: ClassVar = "decoupled"
    lr: Annotated[float, Field(gt=0), Search(1e-4, 3e-2, log=True), RATE] = 1e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-3, 0.3, log=True)] = 0.02
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.99, log1m=True)] = 0.98
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.99, log1m=True)] = 0.92
    beta3: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.999, log1m=True)] = 0.99

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of timm."""
        from timm.optim.adan import Adan as Library

        built: torch.optim.Optimizer = Library(groups, betas=(self.beta1, self.beta2, self.beta3), **common)
        return built
