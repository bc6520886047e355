"""Logit adjustment after training: the prior of the training classes is taken out of the predictions."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, NoOp, Predict, Run, Search, Trick
from harness.tricks.functional import adjusted, class_shares


class LogitAdjustmentPosthoc(Trick):
    """Menon et al. 2020, 2007.07314, section 4.1, equation 9."""

    info: ClassVar = Info(
        name="logit_adjustment_posthoc",
        family="losses",
        summary="subtract the log class shares in training from the logits of the trained network",
        paper="Menon, Jayasumana, Rawat, Jain, Veit, Kumar 2020, arXiv:2007.07314, section 4.1",
        formula="argmax of z - tau log pi, pi_k the share of class k in the training split; training is the baseline's",
        expect=(
            "Helps the mean accuracy of classes where the training split is imbalanced and the test is not: +6.0 "
            "points on CIFAR-10-LT and +4.2 on CIFAR-100-LT in the authors' code, one run each, at no cost. Refused on "
            "balanced classes, where it is the baseline."
        ),
        differs="nothing. logit_adjustment is the same in the loss",
    )
    tau: Annotated[float, Field(ge=0), Search(0.25, 2.0), NoOp(0)] = 1.0

    def prepare(self, run: Run) -> None:
        """Refuse balanced classes."""
        class_shares(run.data.train_counts)

    def predictor(self, predict: Predict, run: Run) -> Predict:
        """Shift the logits."""
        return lambda x: adjusted(predict(x), run.data.train_counts, -self.tau)
