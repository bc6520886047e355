"""Squared error of the logits in place of cross-entropy."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, Run, Search, Trick


def squared_loss(logits: Tensor, y: Tensor, k: float, level: float) -> Tensor:
    """Mean over classes of y_c k (z_c - level)^2 + (1 - y_c) z_c^2 of each example, (N,)."""
    return (k * y * (logits - level).square() + (1 - y) * logits.square()).mean(-1)


class SquaredLoss(Trick):
    """Hui & Belkin 2020, 2006.07322, section 2."""

    info: ClassVar = Info(
        name="squared_loss",
        family="losses",
        summary="squared error of the logits in place of cross-entropy",
        paper="Hui, Belkin 2020, arXiv:2006.07322, section 2",
        formula="(1 / C) [k (z_t - level)^2 + sum over other classes of z_c^2], t the target, without a softmax",
        expect=(
            "The paper finds it level with cross-entropy on vision, and better on speech and text, once rates are "
            "tuned for it. Logits end near 0 and `level`, so probabilities read by a softmax are far from calibrated: "
            "judge it by accuracy."
        ),
        differs=(
            "nothing for one-hot targets; mixed and smoothed ones are the mean of the losses. k = 1 and level = 1 are "
            "the paper's for up to 42 classes; for ImageNet it takes 15 and 30."
        ),
    )
    k: Annotated[float, Field(gt=0), Search(1.0, 15.0, log=True)] = 1.0
    level: Annotated[float, Field(gt=0), Search(1.0, 30.0, log=True)] = 1.0

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Squared error of each example."""
        return squared_loss(logits, y, self.k, self.level)
