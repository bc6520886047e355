"""Nesterov's momentum: the gradient step looks ahead along the momentum."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import DataInfo, Groups, Info, NoEffect, NotApplicable, RecipeStage, Run, Search, Trick, at


class Nesterov(Trick):
    """Nesterov 1983 in the form of Sutskever et al. 2013, section 2."""

    info: ClassVar = Info(
        name="nesterov",
        family="optimization",
        summary="momentum that looks ahead, in place of plain momentum",
        paper="Nesterov 1983; Sutskever, Martens, Dahl, Hinton 2013, ICML",
        formula="v = mu v + g, w = w - lr (g + mu v); plain momentum takes w - lr v",
        expect=(
            "A little faster at the same rate, most with large momentum. Hardly a difference in final accuracy; most "
            "recipes, and the baselines here, have it already."
        ),
        differs="torch's form, which changes with the rate as Sutskever's does not",
    )
    momentum: Annotated[float, Field(gt=0, lt=1), Search(0.8, 0.99, log1m=True)] = 0.9

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Switch it on in the recipe's SGD."""
        if recipe.optimizer != "sgd":
            raise NotApplicable(f"needs SGD, and the recipe's optimizer is {recipe.optimizer}; see `nadamw`")
        changed = recipe.model_copy(update={"momentum": self.momentum, "nesterov": True})
        if changed == recipe:
            raise NoEffect(f"the recipe has Nesterov's momentum of {self.momentum:g} already")
        return changed

    def optimizer(self, groups: Groups, run: Run) -> torch.optim.Optimizer:
        """The recipe's SGD with it; an arm with an optimizer of its own is refused, which would ignore the recipe."""
        r = run.recipe
        return torch.optim.SGD(
            groups, lr=r.lr, momentum=r.momentum, nesterov=True, weight_decay=r.weight_decay, fused=True
        )
