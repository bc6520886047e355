"""Generalized cross-entropy: between cross-entropy and absolute error, for wrong labels."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Info, Run, Search, Trick


def generalized_ce(logits: Tensor, y: Tensor, q: float) -> Tensor:
    """sum_k y_k (1 - p_k^q) / q of each example, (N,)."""
    return (y * -(q * F.log_softmax(logits, dim=-1)).expm1()).sum(-1) / q


class GeneralizedCe(Trick):
    """Zhang & Sabuncu 2018, 1805.07836, section 3.2, equation 6."""

    info: ClassVar = Info(
        name="generalized_ce",
        family="losses",
        summary="between cross-entropy and absolute error, for wrong labels",
        paper="Zhang, Sabuncu 2018, arXiv:1805.07836, section 3.2",
        formula="sum_k y_k (1 - p_k^q) / q, p = softmax(logits): q to 0 is cross-entropy, q = 1 the absolute error / 2",
        expect=(
            "Helps where labels are wrong: examples that the network finds improbable pull by p^q of what they would. "
            "With clean labels and in short training it only learns more slowly, most so for q near one and many "
            "classes."
        ),
        differs="nothing for one-hot targets. No truncation of the loss at k (section 3.3), which prunes examples",
    )
    q: Annotated[float, Field(gt=0, le=1), Search(0.05, 1.0)] = 0.7

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Generalized cross-entropy of each example."""
        return generalized_ce(logits, y, self.q)
