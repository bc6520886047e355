"""Symmetric cross-entropy: the usual one plus the one with target and prediction exchanged."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Info, Run, Search, Trick
from harness.tricks.functional import soft_cross_entropy


def reverse_ce(logits: Tensor, y: Tensor, log_zero: float) -> Tensor:
    """-sum_k p_k log y_k of each example, (N,), with `log_zero` for the logarithm of what is nearer to zero."""
    return -(F.softmax(logits, dim=-1) * y.clamp(min=math.exp(log_zero)).log()).sum(-1)


class SymmetricCe(Trick):
    """Wang et al. 2019, 1908.06112, section 3.2."""

    info: ClassVar = Info(
        name="symmetric_ce",
        family="losses",
        summary="add the cross-entropy with target and prediction exchanged",
        paper="Wang, Ma, Chen, Luo, Yi, Bailey 2019, arXiv:1908.06112, section 3.2",
        formula="alpha CE(y, p) + beta RCE, RCE = -sum_k p_k log y_k with log 0 = a: -a (1 - p_t) for a one-hot y",
        expect=(
            "Helps under label noise, where the reverse term, which is bounded, outweighs the cross-entropy that wrong "
            "labels drive. On clean labels near nothing, or slower training where alpha is small."
        ),
        differs=(
            "Targets below e^a count as e^a, so that mixed and smoothed ones have a value, too. alpha = 0.1, beta = 1 "
            "are the paper's for CIFAR-10, a = -4 the value in its section 4."
        ),
    )
    alpha: Annotated[float, Field(ge=0), Search(0.01, 6.0, log=True)] = 0.1
    beta: Annotated[float, Field(gt=0), Search(0.1, 1.0, log=True)] = 1.0
    a: Annotated[float, Field(lt=0, ge=-20), Search(-8.0, -2.0)] = -4.0

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Both cross-entropies of each example."""
        return self.alpha * soft_cross_entropy(logits, y) + self.beta * reverse_ce(logits, y, self.a)
