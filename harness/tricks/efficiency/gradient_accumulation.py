"""Gradient accumulation: one update from several smaller passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Info, NotApplicable, Run, Search, Trick


def micro_batches(batch: Batch, k: int) -> list[Batch]:
    """The batch in k parts, in order, whose sizes differ by one at most."""
    parts = (torch.tensor_split(t, k) for t in (batch.x, batch.y, batch.label, batch.index))
    return [Batch(*part) for part in zip(*parts, strict=True)]


class GradientAccumulation(Trick):
    """A way of computing, without a paper of its own."""

    info: ClassVar = Info(
        name="gradient_accumulation",
        family="efficiency",
        kind="protocol",
        summary="one update from k smaller passes, to save memory",
        paper="none; common practice, described in Goyal et al. 2017, arXiv:1706.02677, section 3",
        formula="g = sum over k micro-batches of n_i / N grad L_i, with n_i images of the batch's N; one update",
        expect=(
            "Saves memory, activations of N / k images at a time, and leaves the result as it was where nothing in the "
            "net or loss looks across the batch. Batch normalisation does: it sees k small batches, which regularises, "
            "and harms when a micro-batch is very small. No gain in accuracy is to be expected as such."
        ),
        differs=(
            "Each micro-batch counts by its images, not 1 / k, so uneven parts are right. Running statistics of batch "
            "normalisation move k times an update, so they remember 1 / k as many updates. Losses on pairs of images "
            "act on each micro-batch; flooding, whose level is the whole batch's, cannot be combined with it."
        ),
        cost=1.0,
    )
    k: Annotated[int, Field(ge=2), Search(2, 64, log=True)] = 4

    def prepare(self, run: Run) -> None:
        """Refuse empty micro-batches."""
        if self.k > run.recipe.batch_size:
            raise NotApplicable(f"k = {self.k} micro-batches of a batch of {run.recipe.batch_size} would be empty")

    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Accumulate over the micro-batches."""
        total = batch.x.new_zeros(())
        for part in micro_batches(batch, self.k):
            loss = closure(part) * (len(part.x) / len(batch.x))
            run.backward(loss)
            total = total + loss.detach()
        return total
