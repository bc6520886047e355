"""Precise batch normalisation: evaluation normalises by the statistics of the present weights."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import Info, NoEffect, Predict, Run, Search, Trick
from harness.tricks.modules import batch_norms, plain_batches, recompute_statistics


def statistics(model: nn.Module) -> list[Tensor]:
    """The buffers of all batch norms."""
    return [buffer for norm in batch_norms(model) for buffer in norm.buffers()]


@torch.no_grad()
def put(buffers: list[Tensor], values: list[Tensor]) -> None:
    """Set buffers to values."""
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


class PreciseBn(Trick):
    """Wu & Johnson 2021, 2105.07576, section 3."""

    info: ClassVar = Info(
        name="precise_bn",
        family="regularization",
        summary="recompute batch statistics for the weights that are evaluated",
        paper="Wu, Johnson 2021, arXiv:2105.07576, section 3 (PreciseBN)",
        formula="mean and variance of each norm = their averages over `batches` training batches, weights fixed",
        expect=(
            "Steadier validation curves early, with large rates, small batches or little momentum; at the end of a "
            "schedule that falls to zero the running averages agree with it, so expect nothing there."
        ),
        differs=(
            "Training images without augmentation, with dropout off, in the training set's order; the variance is the "
            "mean of the batches' unbiased ones, as in the running average."
        ),
        excludes={
            "inference_fusion": "the statistics are folded away before the test",
            "repvgg_reparam": "the statistics are folded away before the test",
        },
    )
    batches: Annotated[int | None, Field(ge=1, description="all when left out"), Search(5, 200, log=True)] = None

    def prepare(self, run: Run) -> None:
        """Refuse networks without running statistics."""
        if not batch_norms(run.model):
            raise NoEffect("needs batch norms with running statistics, and the model has none")

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Predict with the precise statistics, and leave the running ones to training."""
        buffers = statistics(run.model)
        own = [buffer.clone() for buffer in buffers]
        recompute_statistics(run.model, islice(plain_batches(run), 1 if run.rehearsal else self.batches))
        precise = [buffer.clone() for buffer in buffers]
        put(buffers, own)

        def predicted(x: Tensor) -> Tensor:
            put(buffers, precise)
            try:
                return predict(x)
            finally:
                put(buffers, own)

        return predicted
