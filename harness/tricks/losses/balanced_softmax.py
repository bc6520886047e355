"""Balanced softmax: the softmax weighs each class by its number of training images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from harness.tricks.contract import Info, Run, Trick
from harness.tricks.functional import adjusted, class_shares, soft_cross_entropy


class BalancedSoftmax(Trick):
    """Ren et al. 2020, 2007.10740, section 3.1, equation 4."""

    info: ClassVar = Info(
        name="balanced_softmax",
        family="losses",
        summary="softmax over class counts times exp(logit) in training",
        paper="Ren, Yu, Sheng, Ma, Zhao, Yi, Li 2020, arXiv:2007.10740, section 3.1",
        formula="-sum_k y_k log [n_k e^(z_k) / sum_j n_j e^(z_j)], n_k training images of class k; evaluation reads z",
        expect=(
            "Helps the mean accuracy of classes after imbalanced training, by several points on long-tailed CIFAR in "
            "the paper. Refused on balanced classes, where it is the baseline."
        ),
        differs=(
            "The loss alone, without the paper's meta-learned sampler. It is logit_adjustment with tau = 1, found at "
            "the same time: report one of them."
        ),
    )

    def prepare(self, run: Run) -> None:
        """Refuse balanced classes."""
        class_shares(run.data.train_counts)

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Balanced cross-entropy of each example; counts and shares differ by a factor, which cancels."""
        return soft_cross_entropy(adjusted(logits, run.data.train_counts, 1.0), y)
