"""No bias decay: weight decay on the weights of convolutions and linear layers only."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import nn
from torch.optim import Optimizer

from harness.tricks.contract import Choice, Groups, Info, NoEffect, Run, Trick


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


class NoBiasDecay(Trick):
    """Jia et al. 2018, 1807.11205, section 3.2; He et al. 2018, 1812.01187, section 3.1."""

    info: ClassVar = Info(
        name="no_bias_decay",
        family="optimization",
        summary="no weight decay on biases and normalisation",
        paper="Jia et al. 2018, arXiv:1807.11205; He et al. 2018, arXiv:1812.01187",
        formula=("wd = 0 for biases and for scale and shift of normalisations; wd as it was for all other weights"),
        expect=(
            "Small gains at large batches and large weight decay. Hardly anything at the decay of small "
            "nets; in most libraries this is silently on."
        ),
        differs=(
            "`scope` is an addition; other vectors, such as layer scales and learned slopes, count as normalisation, "
            "and so does what a network of timm names in no_weight_decay(), such as a transformer's position embedding."
        ),
    )
    scope: Annotated[Literal["bias", "norm", "bias+norm"], Choice(("bias", "norm", "bias+norm"))] = "bias+norm"

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split every group."""
        split = exempt(groups, vectors(run.model, self.scope))
        if not any(group.get("weight_decay") == 0 for group in split):
            raise NoEffect(f"the model has no parameter of scope '{self.scope}'")
        return split

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Refuse to pretend when nothing decays anyway."""
        if not any(group.get("weight_decay", 1) for group in optimizer.param_groups):
            raise NoEffect("no weight decay to be spared from; set recipe.weight_decay")
        return optimizer
