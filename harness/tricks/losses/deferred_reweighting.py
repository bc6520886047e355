"""Deferred re-weighting: rare classes count more, but only late in training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Info, NoEffect, NoOp, Run, Search, Trick
from harness.tricks.functional import class_shares, effective_weights, table


class DeferredReweighting(Trick):
    """Cao et al. 2019, 1906.07413, section 3.3."""

    info: ClassVar = Info(
        name="deferred_reweighting",
        family="losses",
        summary="weight rare classes up in the last part of training only",
        paper="Cao, Wei, Gaidon, Arechiga, Ma 2019, arXiv:1906.07413, section 3.3 (DRW)",
        formula="w_y L; w = 1 until `start` of training, then in proportion to (1 - beta) / (1 - beta^n_k) with sum K",
        expect=(
            "Features are learned from the data as they are, and the head is balanced at the end: in the paper some "
            "points of mean class accuracy on long-tailed CIFAR, where weights from the start gain nothing or hurt. "
            "Refused on balanced classes."
        ),
        differs="The mean over the batch is over images, not over their weights. The schedule is the recipe's",
        eager="its weights begin at a step",
    )
    start: Annotated[float, Field(ge=0, le=1), Search(0.5, 0.95), NoOp(1)] = 0.8
    beta: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.99999, log1m=True), NoOp(0)] = 0.9999

    def prepare(self, run: Run) -> None:
        """Refuse balanced classes, and a start after the last update."""
        class_shares(run.data.train_counts)
        if self.start > (run.total_steps - 1) / run.total_steps:
            raise NoEffect(f"start = {self.start:g} is after the last of {run.total_steps} updates")

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """The classes' weights, once they have begun."""
        if run.progress < self.start:
            return logits.new_ones(len(logits))
        return batch.y @ table(effective_weights(run.data.train_counts, self.beta), logits)
