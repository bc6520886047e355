"""Lion: the sign of an interpolated momentum."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


class Lion(OwnOptimizer):
    """Chen et al. 2023, 2302.06675, algorithm 2."""

    info: ClassVar = Info(
        name="lion",
        family="optimization",
        summary="steps of one size in every coordinate, along the sign of a momentum",
        paper="Chen et al. 2023, arXiv:2302.06675",
        formula="w = (1 - lr wd) w - lr sign(b1 m + (1 - b1) g), then m = b2 m + (1 - b2) g",
        expect=(
            "Half of Adam's memory. The paper gains on transformers and large batches and is level with AdamW on "
            "ResNets; its rate should be 3 to 10 times smaller than AdamW's and its decay as many times larger."
        ),
        differs="nothing",
    )
    decay: ClassVar = "decoupled"
    lr: Annotated[float, Field(gt=0), Search(1e-5, 1e-2, log=True), RATE] = 1e-4
    weight_decay: Annotated[float, Field(ge=0), Search(1e-2, 3.0, log=True)] = 0.5
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.98, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.999, log1m=True)] = 0.99

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of timm."""
        from timm.optim.lion import Lion as Library

        built: torch.optim.Optimizer = Library(groups, betas=(self.beta1, self.beta2), **common)
        return built
