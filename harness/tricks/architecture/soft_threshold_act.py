"""Soft thresholding with a fixed threshold as the activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import nn

from harness.tricks.contract import Info, ModelStage, Run, Search, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class SoftThresholdAct(Trick):
    """Donoho 1995, IEEE Trans. Inf. Theory 41(3)."""

    info: ClassVar = Info(
        name="soft_threshold_act",
        family="architecture",
        summary="shrink small activations to zero, of either sign",
        paper="Donoho 1995, IEEE Transactions on Information Theory 41(3)",
        formula="act(x) = sign(x) max(|x| - tau, 0) in place of max(x, 0)",
        expect=(
            "Meant for noisy inputs, where small values are mostly noise; compare under added noise. On clean "
            "images expect a loss against ReLU: with a small tau it is nearly linear, with a large one little "
            "passes. shrinkage_block learns the threshold instead."
        ),
        differs="an activation of a network, where the paper shrinks wavelet coefficients of one signal",
        excludes={"relu": "each replaces every ReLU", "tanh_hidden": "each replaces every ReLU"},
        measured=(
            "As expected on clean images, −7.2 points [−9.0, −5.3] on digits and, against the hope for noise, −10.6 "
            "[−13.1, −8.2] where labels are noisy (n = 10). The rate is not the reason: −16.1 [−19.1, −13.2] at 0.05 "
            "and −28.8 [−34.0, −23.7] at 0.02 (n = 5)."
        ),
    )
    tau: Annotated[float, Field(ge=0), Search(0.01, 1.0, log=True)] = 0.1

    @at(ModelStage.ACT)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every ReLU."""
        replace_modules(model, lambda m: isinstance(m, nn.ReLU), lambda m: nn.Softshrink(self.tau), "ReLU modules")
        return model
