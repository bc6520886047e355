"""Train the head first, then one more stage with each epoch."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Choice, Groups, Info, NoEffect, NotApplicable, Run, Trick
from harness.tricks.modules import parameters_by_depth, split_groups


def first_trained(groups: int, epoch: int, per_epoch: int) -> int:
    """Depth of the lowest group that trains in an epoch, counted from zero; groups - 1 is the head."""
    return max(0, groups - (epoch + 1) * per_epoch)


class GradualUnfreezing(Trick):
    """Howard & Ruder 2018, 1801.06146, section 3.3."""

    info: ClassVar = Info(
        name="gradual_unfreezing",
        family="transfer",
        kind="fine-tuning",
        summary="unfreeze the network from the head down",
        paper="Howard, Ruder 2018, arXiv:1801.06146",
        formula="in epoch e, counted from zero, the upper (e + 1) groups_per_epoch of stages and head are trained",
        expect=(
            "Helps a pretrained net on data unlike its source, by keeping lower features while the head is "
            "random. In a network trained from scratch the head first learns on random features and time is "
            "lost: expect a small loss that fades with long training."
        ),
        differs=(
            "Stages as the model names them. Frozen stages have no gradients, so no decay and no momentum moves "
            "them; their batch norms follow the data, since running statistics are no weights."
        ),
        cost=0.95,
        excludes={
            "bn_freeze": "each decides which parameters have gradients",
            "freeze_layers": "this trains what it freezes",
        },
    )
    groups_per_epoch: Annotated[int, Field(ge=1), Choice((1, 2, 3))] = 1

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split by depth: a group's parameters must start together, or torch's fused SGD has no momentum for some."""
        return [part for _, part in split_groups(groups, parameters_by_depth(run.model))]

    def prepare(self, run: Run) -> None:
        """Refuse runs in which some stage would never be frozen, or never be trained."""
        groups = len(parameters_by_depth(run.model))
        needed = math.ceil(groups / self.groups_per_epoch)
        if needed == 1:
            raise NoEffect(f"groups_per_epoch = {self.groups_per_epoch} unfreezes all {groups} groups at once")
        if needed > run.recipe.epochs:
            raise NotApplicable(f"unfreezing {groups} groups takes {needed} epochs, and there are {run.recipe.epochs}")

    def epoch_start(self, run: Run) -> None:
        """Freeze below, unfreeze above; the optimizer passes over parameters without gradients."""
        groups = parameters_by_depth(run.model)
        first = first_trained(len(groups), run.epoch, self.groups_per_epoch)
        trained = {p for group in run.optimizer.param_groups for p in group["params"]}
        for depth, group in enumerate(groups):
            for parameter in trained.intersection(group):
                parameter.requires_grad_(depth >= first)
