"""Class-balanced loss: classes count by the inverse of their effective number of images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Choice, Info, NoEffect, Run, Search, Trick
from harness.tricks.functional import class_shares, effective_weights, soft_cross_entropy, table

Base = Literal["softmax", "sigmoid", "focal"]


def base_loss(logits: Tensor, y: Tensor, base: Base, gamma: float) -> Tensor:
    """Softmax or summed sigmoid cross-entropy of each example, (N,), the latter times (1 - p_t)^gamma for focal."""
    if base == "softmax":
        return soft_cross_entropy(logits, y)
    losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    if base == "focal":
        p = logits.sigmoid()
        miss = torch.where(y >= 0.5, 1 - p, p).clamp(min=1e-7)
        losses = losses * miss**gamma
    return losses.sum(-1)


class ClassBalancedLoss(Trick):
    """Cui et al. 2019, 1901.05555, sections 3 and 4."""

    info: ClassVar = Info(
        name="class_balanced_loss",
        family="losses",
        summary="weight classes by their effective number of images, on a focal or sigmoid loss",
        paper="Cui, Jia, Lin, Song, Belongie 2019, arXiv:1901.05555, sections 3 and 4",
        formula=(
            "w_y L(z, y), w_k proportional to (1 - beta) / (1 - beta^n_k) with sum K; L is the softmax, the sigmoid "
            "cross-entropy, or the latter times (1 - p_t)^gamma, summed over classes"
        ),
        expect=(
            "Raises the accuracy of rare classes after imbalanced training; later methods (logit_adjustment, ldam_drw) "
            "gain more on long tails. Rare classes get large gradients, so a high rate may not survive."
        ),
        differs=(
            "The head's bias starts as the baseline's, not at -log(K - 1). With mixed targets the weight is the mean "
            "of the classes' weights, and focal's p_t is that of the more probable answer. `weighted_ce` with the "
            "scheme 'effective' is the softmax form with mean weight one over the images."
        ),
    )
    base: Annotated[Base, Choice(("softmax", "sigmoid", "focal"))] = "focal"
    beta: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.99999, log1m=True)] = 0.9999
    gamma: Annotated[float, Field(ge=0, description="of focal only"), Search(0.5, 2.0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Refuse balanced classes, and weights of one on the baseline's loss."""
        class_shares(run.data.train_counts)
        if self.base == "softmax" and self.beta == 0:
            raise NoEffect("beta = 0 weighs all classes alike, and base = 'softmax' is the baseline's loss")

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """The weighted loss of each example."""
        weights = table(effective_weights(run.data.train_counts, self.beta), logits)
        return (y @ weights) * base_loss(logits, y, self.base, self.gamma)
