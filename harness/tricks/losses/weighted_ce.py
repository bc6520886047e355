"""Class-weighted cross-entropy: rare classes count more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Choice, Info, NoEffect, Run, Search, Trick
from harness.tricks.functional import soft_cross_entropy, table

Scheme = Literal["inv", "sqrt_inv", "effective"]


def class_weights(counts: Sequence[int], scheme: Scheme, beta: float) -> list[float]:
    """Weights that fall with the class counts n, with mean one over the examples of the training set.

    inv: 1 / n. sqrt_inv: 1 / sqrt(n). effective: (1 - beta) / (1 - beta^n). An empty class counts as one.
    """
    weight: Callable[[int], float] = {
        "inv": lambda n: 1 / n,
        "sqrt_inv": lambda n: n**-0.5,
        "effective": lambda n: (1 - beta) / (1 - beta**n),
    }[scheme]
    raw = [weight(max(n, 1)) for n in counts]
    scale = sum(counts) / sum(n * w for n, w in zip(counts, raw, strict=True))
    return [w * scale for w in raw]


class WeightedCe(Trick):
    """King & Zeng 2001; Cui et al. 2019, 1901.05555."""

    info: ClassVar = Info(
        name="weighted_ce",
        family="losses",
        summary="weight classes by the inverse of their frequency",
        paper=("King, Zeng 2001, Political Analysis 9(2); effective numbers: Cui et al. 2019, arXiv:1901.05555"),
        formula=(
            "-sum_k w_k y_k log p_k; w_k is 1 / n_k, 1 / sqrt(n_k) or (1 - beta) / (1 - beta^n_k), scaled "
            "so that sum_k n_k w_k = sum_k n_k over the training set"
        ),
        expect=(
            "Raises accuracy of rare classes and may lower overall accuracy when the test set is imbalanced "
            "too. Refused on balanced classes, where it is exactly the baseline."
        ),
        differs=(
            "The mean weight is one over the training set, and the loss is the plain mean over the batch, "
            "for hard and soft targets alike. Dividing by the batch's sum of weights, as is usual for hard "
            "targets, would change the scale of the loss as soon as targets are mixed; Cui et al. scale the "
            "sum of weights to K."
        ),
    )
    scheme: Annotated[Scheme, Choice(("inv", "sqrt_inv", "effective"))] = "inv"
    beta: Annotated[
        float, Field(ge=0, lt=1, description="of the scheme 'effective' only"), Search(0.9, 0.99999, log1m=True)
    ] = 0.9999

    def prepare(self, run: Run) -> None:
        """Refuse balanced classes."""
        if len(set(run.data.train_counts)) == 1:
            raise NoEffect("all classes are equally frequent, so every weight is one")

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Weighted cross-entropy of each example."""
        weights = table(tuple(class_weights(run.data.train_counts, self.scheme, self.beta)), logits)
        return soft_cross_entropy(logits, y * weights)
