"""Weight decay, through the gradient (L2) or straight on the weights (decoupled)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from harness.tricks.contract import Choice, Groups, Info, NoEffect, Run, Search, Trick

TORCH_SWITCH = "decoupled_weight_decay"
"""Key by which the groups of torch's Adam family choose between the two forms."""


@torch.no_grad()
def shrink(optimizer: Optimizer, *_: Any) -> None:
    """Multiply every weight that has a gradient by 1 - lr * decay, with each group's `decoupled_decay`.

    A fused optimizer under a gradient scaler is called even when a gradient overflowed, and then leaves the
    weights alone, so this does, too.
    """
    overflow = getattr(optimizer, "found_inf", None)
    for group in optimizer.param_groups:
        weights = [p for p in group["params"] if p.grad is not None]
        amount = group["lr"] * group["decoupled_decay"]
        if weights and group["decoupled_decay"]:
            torch._foreach_mul_(weights, 1 - amount if overflow is None else 1 - amount * (1 - overflow))


class WeightDecay(Trick):
    """Krogh & Hertz 1991 (coupled); Loshchilov & Hutter 2017, 1711.05101 (decoupled).

    Groups that already carry a weight decay keep it, so exemptions by other tricks stay.
    """

    info: ClassVar = Info(
        name="weight_decay",
        family="core",
        kind="value",
        summary="shrink the weights a little at every update",
        paper="Krogh, Hertz 1991 (NeurIPS 4); Loshchilov, Hutter 2017, arXiv:1711.05101",
        formula="coupled: g = g + wd w before the update; decoupled: w = (1 - lr wd) w before the update",
        expect=(
            "Helps nets that overfit and long runs; seen in the validation curve, not in the training "
            "loss. The best value shifts with the rate, normalisation and mixup. Small nets in short runs "
            "hardly notice."
        ),
        differs=(
            "replaces the recipe's or the optimizer's value. SGD and torch's Adam family take both modes; "
            "an optimizer that only knows the decoupled form keeps it."
        ),
        measured=(
            "The default is a tenth of what the digits were tuned to: −0.5 points [−1.1, −0.0] on digits, −1.9 [−2.7, "
            "−1.0] on noisy digits (n = 10)."
        ),
    )
    wd: Annotated[float, Field(ge=0), Search(1e-6, 1e-1, log=True)] = 5e-4
    mode: Annotated[Literal["coupled", "decoupled"], Choice(("coupled", "decoupled"))] = "coupled"

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Give every group without a weight decay this one."""
        return [{"weight_decay": self.wd, **group} for group in groups]

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Bring the decay into its mode: by torch's own switch, or else by a hook before the update.

        Raises:
            NoEffect: amount and mode are those that the optimizer has without the trick.
        """
        switched = [group for group in optimizer.param_groups if TORCH_SWITCH in group]
        modes = {"decoupled" if group[TORCH_SWITCH] else "coupled" for group in switched} or {"coupled"}
        if self.wd == optimizer.defaults.get("weight_decay") and (modes == {self.mode} or self.wd == 0):
            raise NoEffect(f"wd = {self.wd:g}, {self.mode}, is the weight decay that there is already")
        for group in switched:
            group[TORCH_SWITCH] = self.mode == "decoupled"
        if self.mode == "decoupled" and not switched:
            for group in optimizer.param_groups:
                group["decoupled_decay"], group["weight_decay"] = group["weight_decay"], 0.0
            optimizer.register_step_pre_hook(shrink)
        return optimizer
