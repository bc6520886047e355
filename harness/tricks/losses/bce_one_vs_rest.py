"""Binary cross-entropy: K independent logistic losses in place of one softmax."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Choice, Info, Run, Trick


def bce_one_vs_rest(logits: Tensor, y: Tensor, threshold: float | None = None) -> Tensor:
    """Sum over classes of the logistic loss, (N,); a threshold turns targets into y > threshold."""
    if threshold is not None:
        y = (y > threshold).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(-1)


class BceOneVsRest(Trick):
    """Wightman et al. 2021, 2110.00476, section 3, for single labels."""

    info: ClassVar = Info(
        name="bce_one_vs_rest",
        family="losses",
        summary="one logistic loss per class in place of the softmax",
        paper="classic; for single labels Wightman, Touvron, Jégou 2021, arXiv:2110.00476",
        formula=(
            "-sum_k [y_k log s(z_k) + (1 - y_k) log(1 - s(z_k))], s the sigmoid; optionally y = 1 where y > threshold"
        ),
        expect=(
            "Near nothing alone; goes with mixup and CutMix, whose targets it can treat as several labels "
            "at once. Slow start with many classes, since the first steps only learn that most answers are "
            "no."
        ),
        differs=(
            "Summed over classes; a mean would make gradients K times smaller. Where all logits are zero the gradient "
            "is sqrt(K) / 2 long, under the softmax sqrt(1 - 1 / K): 1.67 times as long with 10 classes and 15.8 times "
            "with 1000, so tune the learning rate. Smoothing is label_smoothing's business."
        ),
    )
    target_threshold: Annotated[Annotated[float, Field(ge=0, lt=1)] | None, Choice((None, 0.2))] = None

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Sum of logistic losses of each example."""
        return bce_one_vs_rest(logits, y, self.target_threshold)
