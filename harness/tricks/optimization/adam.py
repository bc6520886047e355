"""Adam: steps of nearly equal size in every coordinate, with weight decay in the gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import RATE, DataInfo, Groups, Info, RecipeStage, Run, Search, Trick, at


class Adam(Trick):
    """Kingma & Ba 2014, 1412.6980, algorithm 1."""

    info: ClassVar = Info(
        name="adam",
        family="optimization",
        summary="Adam instead of the recipe's optimizer",
        paper="Kingma, Ba 2014, arXiv:1412.6980",
        formula="w = w - lr m / (sqrt(v) + eps), m and v the bias-corrected means of g and g^2, g with wd w added",
        expect=(
            "Helps where rates were never tuned, gradients differ much in size, and nets without normalisation. The "
            "paper compares training losses only; well-tuned SGD with momentum often generalises better on small "
            "convolutional nets. Compare at each one's own tuned rate."
        ),
        differs=(
            "Weight decay, which the paper does not have, is coupled: it passes through the moments, so weights with "
            "large gradients decay less; adamw decouples it. The schedule is the recipe's; eps = 1e-8."
        ),
    )
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True), RATE] = 1e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-6, 1e-2, log=True)] = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.5, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.9999, log1m=True)] = 0.999

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Declare the rate and the decay before tricks that scale the rate look at it."""
        return recipe.model_copy(update={"lr": self.lr, "weight_decay": self.weight_decay})

    def optimizer(self, groups: Groups, run: Run) -> torch.optim.Optimizer:
        """Adam with the rate and the decay of the recipe; what a group carries itself wins."""
        r, betas = run.recipe, (self.beta1, self.beta2)
        return torch.optim.Adam(groups, lr=r.lr, weight_decay=r.weight_decay, betas=betas, fused=True)
