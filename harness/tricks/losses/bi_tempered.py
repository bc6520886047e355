"""Bi-tempered logistic loss: a bounded logarithm and a softmax with heavy tails."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, NoEffect, Run, Search, Trick

ITERATIONS = 20
"""Of the fixed point for the normaliser; the paper's code takes 5, after which it is off by some per mille."""


def log_t(x: Tensor, t: float) -> Tensor:
    """The logarithm of temperature t: (x^(1 - t) - 1) / (1 - t)."""
    return x.log() if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def exp_t(x: Tensor, t: float) -> Tensor:
    """The inverse of `log_t`: max(0, 1 + (1 - t) x)^(1 / (1 - t))."""
    return x.exp() if t == 1 else (1 + (1 - t) * x).relu() ** (1 / (1 - t))


def tempered_softmax(logits: Tensor, t: float) -> Tensor:
    """exp_t(z - lambda(z)) for logits z (N, K) and t >= 1, with the lambda at which rows sum to one (algorithm 1)."""
    if t == 1:
        return logits.softmax(-1)
    with torch.no_grad():
        top = logits.amax(-1, keepdim=True)
        centred = logits - top
        scaled = centred
        for _ in range(ITERATIONS):
            scaled = centred * exp_t(scaled, t).sum(-1, keepdim=True) ** (1 - t)
        norm = -log_t(1 / exp_t(scaled, t).sum(-1, keepdim=True), t) + top
        escort = exp_t(logits - norm, t) ** t
        escort /= escort.sum(-1, keepdim=True)
    # The slope of lambda is the escort distribution; the sum below is zero and has that slope.
    norm = norm + (escort * (logits - logits.detach())).sum(-1, keepdim=True)
    return exp_t(logits - norm, t)


def bi_tempered(logits: Tensor, y: Tensor, t1: float, t2: float) -> Tensor:
    """sum_k y_k (log_t1 y_k - log_t1 p_k) - (y_k^(2 - t1) - p_k^(2 - t1)) / (2 - t1) of each example, (N,)."""
    p = tempered_softmax(logits, t2).clamp(min=1e-12)
    own = torch.where(y > 0, y * log_t(y.clamp(min=1e-12), t1), 0)
    return (own - y * log_t(p, t1) - (y ** (2 - t1) - p ** (2 - t1)) / (2 - t1)).sum(-1)


class BiTempered(Trick):
    """Amid, Warmuth, Anil & Koren 2019, 1906.03361, sections 2 and 3."""

    info: ClassVar = Info(
        name="bi_tempered",
        family="losses",
        summary="bounded logarithm and heavy-tailed softmax, for wrong labels",
        paper="Amid, Warmuth, Anil, Koren 2019, arXiv:1906.03361",
        formula=(
            "the Bregman divergence of log_t1 between y and p = exp_t2(z - lambda(z)), log_t(x) = (x^(1-t) - 1) / "
            "(1 - t); t1 = t2 = 1 is the softmax cross-entropy"
        ),
        expect=(
            "t1 < 1 bounds what far outliers cost, t2 > 1 gives labels near the border a tail. Helps under label "
            "noise, in the paper by a point and more on CIFAR-100; near nothing on clean labels. Probabilities that "
            "are read from the logits by the usual softmax are not those that were trained."
        ),
        differs=(
            "nothing for t1 <= 1 <= t2; evaluation takes the usual softmax of the logits, which has the same order. "
            "With soft targets the divergence of equal distributions is zero, where cross-entropy keeps the entropy."
        ),
    )
    t1: Annotated[float, Field(ge=0, le=1), Search(0.5, 1.0)] = 0.8
    t2: Annotated[float, Field(ge=1, le=4), Search(1.0, 2.0)] = 1.2

    def prepare(self, run: Run) -> None:
        """Refuse the cross-entropy."""
        if self.t1 == self.t2 == 1:
            raise NoEffect("t1 = 1 and t2 = 1 are the softmax cross-entropy of the baseline")

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """The bi-tempered loss of each example."""
        return bi_tempered(logits, y, self.t1, self.t2)
