"""Latest weight averaging: the mean of the last few epochs' weights is evaluated."""

from __future__ import annotations

import copy
from itertools import islice
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, NotApplicable, Run, Search, Trick
from harness.tricks.modules import plain_batches, recompute_statistics

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


@torch.no_grad()
def set_to_mean(model: Classifier, kept: list[list[Tensor]]) -> None:
    """Set the network's parameters to the mean of lists of them."""
    for parameter, values in zip(model.parameters(), zip(*kept, strict=True), strict=True):
        parameter.copy_(torch.stack(values).mean(0))


class Lawa(Trick):
    """Kaddour 2022, 2209.14981, section 2."""

    info: ClassVar = Info(
        name="lawa",
        family="regularization",
        summary="evaluate the mean of the last epochs' weights",
        paper="Kaddour 2022, arXiv:2209.14981 (LAWA)",
        formula="evaluated weights = mean of the weights at the ends of the last k epochs, batch statistics recomputed",
        expect=(
            "Ahead of the live network while the rate is high: the paper reaches a given loss on ImageNet tens of "
            "epochs earlier. At the end of a schedule that falls to zero the checkpoints agree and nothing is left."
        ),
        differs=(
            "nothing but k, which the paper tunes (6 for ResNet-50). Batch statistics come from the training images "
            "without augmentation. Unlike stochastic_weight_averaging it leaves the schedule, and old epochs fall out."
        ),
        cost=1.02,
    )
    k: Annotated[int, Field(ge=2), Search(2, 10)] = 6

    def prepare(self, run: Run) -> None:
        """Make room for the checkpoints."""
        if run.recipe.epochs < 2:
            raise NotApplicable("one epoch has one checkpoint, and a mean needs two")
        run.state[self.name] = []

    def epoch_end(self, run: Run) -> None:
        """Keep the weights, and forget the oldest."""
        weights = [p.detach().clone() for p in run.model.parameters()]
        run.state[self.name] = [*run.state[self.name], weights][-self.k :]

    def evaluation_weights(self, run: Run) -> Classifier:
        """The mean of the checkpoints with its own batch statistics."""
        kept = run.state[self.name]
        if not kept:
            return run.model
        model = copy.deepcopy(run.model)
        set_to_mean(model, kept)
        recompute_statistics(model, islice(plain_batches(run), 1 if run.rehearsal else None))
        return model
