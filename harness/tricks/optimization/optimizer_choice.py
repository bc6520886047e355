"""Another optimizer from torch, at a rate of its own."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field

from harness.experiment import Recipe
from harness.tricks.contract import (
    RATE,
    Choice,
    DataInfo,
    Groups,
    Info,
    NoEffect,
    RecipeStage,
    Run,
    Search,
    Trick,
    at,
    times,
)

Kind = Literal["sgd", "rmsprop", "nadam", "radam", "adagrad"]

DEFAULT_LR = {"rmsprop": 1e-3, "nadam": 2e-3, "radam": 1e-3, "adagrad": 1e-2}
"""Rates where a search may start: torch's defaults, but for RMSProp's; SGD starts from the recipe's."""


class OptimizerChoice(Trick):
    """Choi et al. 2019, 1910.05446: what optimizers are worth when each is tuned.

    lr: None is the recipe's rate for sgd, 1e-3 for rmsprop and torch's default for the others.
    """

    info: ClassVar = Info(
        name="optimizer_choice",
        family="optimization",
        summary="another optimizer, at a rate of its own",
        paper=(
            "protocol: Choi, Shallue, Nado, Lee, Maddison, Dahl 2019, arXiv:1910.05446; RMSProp: Tieleman, Hinton "
            "2012; NAdam: Dozat 2016; RAdam: Liu et al. 2019, arXiv:1908.03265; Adagrad: Duchi, Hazan, Singer 2011, "
            "JMLR 12"
        ),
        formula=(
            "sgd: heavy-ball momentum of the recipe, not Nesterov's; rmsprop: g / sqrt(mean g^2); nadam: Adam with "
            "Nesterov's momentum; radam: Adam with the early variance rectified; adagrad: g / sqrt(sum g^2)"
        ),
        expect=(
            "At one fixed rate the arm mostly shows how good the rate is. The paper finds that with each one tuned "
            "under an equal budget the more general optimizer is never worse, and differences are small. Adagrad's "
            "rate decays by itself, which under a schedule is too much."
        ),
        differs=(
            "One rate is given rather than searched; search `lr` for each name under the same budget as the "
            "baseline's. Without one rmsprop has 1e-3, as in Keras, where torch has 1e-2. Other settings are torch's; "
            "weight decay is the recipe's, coupled. adam and adamw are "
            "tricks of their own."
        ),
    )
    kind: Annotated[Kind, Choice(("sgd", "rmsprop", "nadam", "radam", "adagrad"))] = "nadam"
    lr: Annotated[Annotated[float, Field(gt=0)] | None, Search(1e-4, 1.0, log=True), RATE] = None

    def at_rate(self, factor: float) -> Self:
        """At a multiple of the rate, which torch's default is where none is given; SGD then has the recipe's."""
        lr = self.lr or DEFAULT_LR.get(self.kind)
        return self if lr is None else self.model_copy(update={"lr": times(lr, factor)})

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Declare the rate before tricks that scale the rate look at it."""
        lr = self.lr or DEFAULT_LR.get(self.kind, recipe.lr)
        changed = recipe.model_copy(update={"lr": lr})
        if self.kind == "sgd":
            changed = changed.model_copy(update={"optimizer": "sgd", "nesterov": False})
            if changed == recipe:
                raise NoEffect("the recipe's optimizer is SGD without Nesterov's momentum at this rate already")
        return changed

    def optimizer(self, groups: Groups, run: Run) -> torch.optim.Optimizer:
        """The optimizer with the rate and the decay of the recipe; what a group carries itself wins."""
        r = run.recipe
        common: dict[str, Any] = {"lr": r.lr, "weight_decay": r.weight_decay}
        match self.kind:
            case "sgd":
                return torch.optim.SGD(groups, momentum=r.momentum, fused=True, **common)
            case "rmsprop":
                return torch.optim.RMSprop(groups, **common)
            case "nadam":
                return torch.optim.NAdam(groups, **common)
            case "radam":
                return torch.optim.RAdam(groups, **common)
            case "adagrad":
                return torch.optim.Adagrad(groups, **common)
