"""Jensen-Shannon divergence between target and prediction, for wrong labels."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Info, Run, Search, Trick


def jensen_shannon(logits: Tensor, y: Tensor, share: float) -> Tensor:
    """[share KL(y || m) + (1 - share) KL(p || m)] / Z of each example, (N,), with m = share y + (1 - share) p.

    Z = -(1 - share) log(1 - share).
    """
    log_p = F.log_softmax(logits, dim=-1)
    p = log_p.exp()
    log_m = (share * y + (1 - share) * p).clamp(min=1e-12).log()
    target = torch.special.xlogy(y, y) - y * log_m
    divergence = share * target + (1 - share) * p * (log_p - log_m)
    scaled: Tensor = divergence.sum(-1) / (-(1 - share) * math.log(1 - share))
    return scaled


class Jsd(Trick):
    """Englesson & Azizpour 2021, 2105.04522, section 3."""

    info: ClassVar = Info(
        name="jsd",
        family="losses",
        summary="Jensen-Shannon divergence in place of cross-entropy, for wrong labels",
        paper="Englesson, Azizpour 2021, arXiv:2105.04522, section 3",
        formula=(
            "[w KL(y || m) + (1 - w) KL(p || m)] / Z, m = w y + (1 - w) p, Z = -(1 - w) log(1 - w): w to 0 is "
            "cross-entropy, w to 1 the absolute error / 2"
        ),
        expect=(
            "Helps under label noise: bounded by H(w) / Z, as the absolute error is, and easier to learn from. On "
            "clean labels near nothing; slow starts for w near one."
        ),
        differs="The paper's JS for one prediction; its generalised form, which also compares two views, is not here",
    )
    w: Annotated[float, Field(gt=0, lt=1), Search(0.1, 0.9)] = 0.5

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """The scaled divergence of each example."""
        return jensen_shannon(logits, y, self.w)
