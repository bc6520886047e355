"""Logit adjustment: logits are shifted by the logarithms of the class shares in training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Info, NoOp, Run, Search, Trick
from harness.tricks.functional import adjusted, class_shares, soft_cross_entropy


class LogitAdjustment(Trick):
    """Menon et al. 2020, 2007.07314, section 4.2, equation 10."""

    info: ClassVar = Info(
        name="logit_adjustment",
        family="losses",
        summary="shift logits by the log class shares in training",
        paper="Menon, Jayasumana, Rawat, Jain, Veit, Kumar 2020, arXiv:2007.07314, section 4.2",
        formula="CE(y, z + tau log pi), pi_k the share of class k in the training split; evaluation reads z",
        expect=(
            "Helps the mean accuracy of classes where the training split is imbalanced and the test is not: in the "
            "paper several points on long-tailed CIFAR. Loses overall accuracy where the test is imbalanced, too. "
            "Refused on balanced classes, where it is the baseline."
        ),
        differs="nothing. tau = 1 makes it balanced_softmax",
    )
    tau: Annotated[float, Field(ge=0), Search(0.25, 2.0), NoOp(0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Refuse balanced classes."""
        class_shares(run.data.train_counts)

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Cross-entropy of the shifted logits of each example."""
        return soft_cross_entropy(adjusted(logits, run.data.train_counts, self.tau), y)
