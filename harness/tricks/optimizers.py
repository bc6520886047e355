"""What tricks share that take the place of the recipe's optimizer, or choose which weights decay."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.optim import Optimizer

from harness.experiment import Recipe
from harness.tricks.contract import RATE, DataInfo, Groups, RecipeStage, Run, Search, Trick, at

Decay = Literal["coupled", "decoupled", "inside"]
"""Where an optimizer has weight decay: in the gradient, straight on the weights, or so that it cannot be had apart."""

DECOUPLED = "decoupled_weight_decay"
"""Key by which the groups of torch's Adam family choose between the first two."""

FORM = "decay_form"
"""Key under which the defaults of any other optimizer say what it has; without, it is coupled."""


def decay_form(optimizer: Optimizer, group: dict[str, Any]) -> Decay:
    """Where the optimizer has the weight decay of one of its groups."""
    if DECOUPLED in group:
        return "decoupled" if group[DECOUPLED] else "coupled"
    declared: Decay = optimizer.defaults.get(FORM, "coupled")
    return declared


def coupled_decay(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """The weight decay that the optimizer will add to the group's gradients; zero where it decays elsewhere."""
    return float(group.get("weight_decay", 0.0)) if decay_form(optimizer, group) == "coupled" else 0.0


class OwnOptimizer(Trick):
    """An optimizer with a rate and a weight decay of its own; the schedule stays the recipe's.

    A subclass declares both with their ranges, and where the decay is unless the groups say so (`DECOUPLED`), and
    builds the optimizer.
    """

    decay: ClassVar[Decay] = "coupled"
    lr: float
    weight_decay: float

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Declare the rate and the decay before tricks that scale the rate look at it."""
        return recipe.model_copy(update={"lr": self.lr, "weight_decay": self.weight_decay})

    def optimizer(self, groups: Groups, run: Run) -> Optimizer:
        """The optimizer with the rate and the decay of the recipe; what a group carries itself wins."""
        built = self.build(groups, run, lr=run.recipe.lr, weight_decay=run.recipe.weight_decay)
        built.defaults[FORM] = self.decay
        return built

    def build(self, groups: Groups, run: Run, **common: Any) -> Optimizer:
        """The optimizer of these groups; `common` holds `lr` and `weight_decay` of those that carry none."""
        raise NotImplementedError


class CoupledAdam(OwnOptimizer):
    """Adam as torch has it (Kingma & Ba 2014, 1412.6980, algorithm 1), with weight decay in the gradient."""

    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True), RATE] = 1e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-6, 1e-2, log=True)] = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.5, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.9999, log1m=True)] = 0.999

    def build(self, groups: Groups, run: Run, **common: Any) -> Optimizer:
        """In one kernel."""
        return torch.optim.Adam(groups, betas=(self.beta1, self.beta2), fused=True, **common)


def vectors(model: nn.Module, scope: str) -> set[nn.Parameter]:
    """Parameters without weight decay: all of one dimension or none, and those that the network itself names.

    "bias": those of layers whose weight has more dimensions, or that have no weight. "norm": all others,
    which are the scales and shifts of normalisations, layer scales, learned slopes, and what a module lists in timm's
    `no_weight_decay()`, such as the position embedding of a transformer.
    """
    found: set[nn.Parameter] = set()
    for module in model.modules() if "norm" in scope else ():
        named: set[str] = getattr(module, "no_weight_decay", set)()
        found |= {parameter for name, parameter in module.named_parameters() if name in named}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        for name, parameter in module.named_parameters(recurse=False):
            bias = name.endswith("bias") and (weight is None or weight.ndim > 1)
            if parameter.ndim <= 1 and ("bias" if bias else "norm") in scope:
                found.add(parameter)
    return found


def exempt(groups: Groups, free: set[nn.Parameter]) -> Groups:
    """Split every group in two; the part with the parameters in `free` has weight decay zero."""
    split: Groups = []
    for group in groups:
        decayed = [p for p in group["params"] if p not in free]
        spared = [p for p in group["params"] if p in free]
        split += [{**group, "params": decayed}] if decayed else []
        split += [{**group, "params": spared, "weight_decay": 0.0}] if spared else []
    return split
