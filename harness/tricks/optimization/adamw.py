"""AdamW: Adam with the weight decay taken out of the gradient."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import RATE, DataInfo, Groups, Info, RecipeStage, Run, Search, at
from harness.tricks.optimizers import OwnOptimizer


class Adamw(OwnOptimizer):
    """Loshchilov & Hutter 2017, 1711.05101, algorithm 2."""

    info: ClassVar = Info(
        name="adamw",
        family="optimization",
        summary="Adam with decoupled weight decay instead of the recipe's optimizer",
        paper="Loshchilov, Hutter 2017, arXiv:1711.05101; Adam: Kingma, Ba 2014, arXiv:1412.6980",
        formula="w = (1 - lr wd) w - lr m / (sqrt(v) + eps), m and v the bias-corrected means of g and g^2",
        expect=(
            "Helps where rates were never tuned, transformers, and nets without normalisation. Well-tuned "
            "SGD with momentum is level or better on small convolutional nets. Compare at each one's own "
            "tuned rate."
        ),
        differs="decay is multiplied by the rate, as in torch; the schedule is the recipe's; eps = 1e-8",
    )
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True), RATE] = 1e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-3, 0.3, log=True)] = 0.05
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.999, log1m=True)] = 0.999

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """What the recipe's own `optimizer = "adamw"` would be, too."""
        own: Recipe = super().recipe(recipe, data)
        return own.model_copy(update={"optimizer": "adamw"})

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """Torch's, in one kernel."""
        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), fused=True, **common)
