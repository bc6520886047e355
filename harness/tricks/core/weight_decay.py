"""Weight decay, through the gradient (L2) or straight on the weights (decoupled)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from harness.tricks.contract import Choice, Groups, Info, NoEffect, NotApplicable, Run, Search, Trick
from harness.tricks.optimizers import DECOUPLED, Decay, decay_form


@torch.no_grad()
def shrink(optimizer: Optimizer, *_: Any) -> None:
    """Multiply every weight that has a gradient by 1 - lr * decay, with each group's `shrink`.

    A fused optimizer under a gradient scaler is called even when a gradient overflowed, and then leaves the
    weights alone, so this does, too.
    """
    overflow = getattr(optimizer, "found_inf", None)
    for group in optimizer.param_groups:
        weights = [p for p in group["params"] if p.grad is not None]
        amount = group["lr"] * group["shrink"]
        if weights and group["shrink"]:
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
        formula=(
            "coupled: g = g + wd w before the update; decoupled: w = (1 - lr wd) w before the update; own: as the "
            "optimizer does it"
        ),
        expect=(
            "Helps nets that overfit and long runs; seen in the validation curve, not in the training "
            "loss. The best value shifts with the rate, normalisation and mixup. Small nets in short runs "
            "hardly notice."
        ),
        differs=(
            "replaces the recipe's or the optimizer's value, and by default that alone. SGD, RMSProp, Adagrad, "
            "AdaBound and torch's Adam family take both modes, so that another mode makes AdamW Adam with L2; "
            "other optimizers keep their own, and the other is refused. Decoupled decay follows the rate, as torch's "
            "does, not the schedule alone, as the paper's."
        ),
        measured=(
            "The default is a tenth of what the digits were tuned to: −0.5 points [−1.1, −0.0] on digits, −1.9 [−2.7, "
            "−1.0] on noisy digits (n = 10)."
        ),
        version=2,
    )
    wd: Annotated[float, Field(ge=0), Search(1e-6, 1e-1, log=True)] = 5e-4
    mode: Annotated[Literal["own", "coupled", "decoupled"], Choice(("own", "coupled", "decoupled"))] = "own"

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Give every group without a weight decay this one."""
        return [{"weight_decay": self.wd, **group} for group in groups]

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Bring the decay into its mode: by torch's own switch, or else by a hook before the update.

        Raises:
            NoEffect: amount and mode are those that the optimizer has without the trick.
            NotApplicable: the optimizer has no weight decay of that mode.
        """
        own: Decay = decay_form(optimizer, optimizer.param_groups[0])
        changes = self.mode not in ("own", own)
        if self.wd == optimizer.defaults.get("weight_decay") and not (changes and self.wd):
            raise NoEffect(f"wd = {self.wd:g}, {self.mode}, is the weight decay that there is already")
        if not changes:
            return optimizer
        if DECOUPLED in optimizer.defaults:
            for group in optimizer.param_groups:
                group[DECOUPLED] = self.mode == "decoupled"
        elif own == "coupled":
            for group in optimizer.param_groups:
                group["shrink"], group["weight_decay"] = group["weight_decay"], 0.0
            optimizer.register_step_pre_hook(shrink)
        else:
            raise NotApplicable(
                f"mode = {self.mode}: {type(optimizer).__name__} has weight decay in its own way alone; set mode = own"
            )
        return optimizer
