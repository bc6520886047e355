"""Online hard example mining: only the images with the largest losses of a batch count."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import PARTS, Batch, Info, NoOp, Run, Search, Trick
from harness.tricks.functional import soft_cross_entropy


def hardest(losses: Tensor, keep: float) -> Tensor:
    """N / M at the M = max(1, round(keep N)) largest losses (N,), zero elsewhere, so that their mean is taken."""
    kept = max(1, round(keep * len(losses)))
    chosen = losses.topk(kept).indices
    return torch.zeros_like(losses).scatter(0, chosen, len(losses) / kept)


class Ohem(Trick):
    """Shrivastava, Gupta & Girshick 2016, 1604.03540, section 4."""

    info: ClassVar = Info(
        name="ohem",
        family="losses",
        summary="learn from the hardest images of each batch only",
        paper="Shrivastava, Gupta, Girshick 2016, arXiv:1604.03540, section 4",
        formula="mean of the round(keep N) largest losses of the batch",
        expect=(
            "Made for detection, where nearly all regions are easy background. In classification easy images soon "
            "have no gradient anyway, so expect little; under label noise it learns the wrong labels first and hurts."
        ),
        differs=(
            "Images in the place of regions, so no suppression of overlapping ones. Hardness is the cross-entropy, "
            "whatever loss is trained. All images are passed back, with weight zero for the easy: no time is saved "
            "(selective_backprop saves it)."
        ),
        excludes={PARTS: "the hardest of a part of the batch are not those of the batch"},
    )
    keep: Annotated[float, Field(gt=0, le=1), Search(0.25, 0.9), NoOp(1)] = 0.7

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Weights that take the mean of the hardest."""
        return hardest(soft_cross_entropy(logits.detach(), batch.y), self.keep)
