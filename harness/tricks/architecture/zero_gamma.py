"""Zero gamma: residual blocks start as the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from harness.tricks.contract import Info, InitStage, NoEffect, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

LAST_NORMS = ("norm3", "norm2", "bn3", "bn2")
"""Names of a residual branch's norms, here and in timm; the first that a block has is its last."""


def last_gammas(model: nn.Module) -> list[Tensor]:
    """The scale of the last norm of every residual block: modules that have a shortcut (timm: downsample)."""
    gammas = []
    for block in model.modules():
        if not (hasattr(block, "shortcut") or hasattr(block, "downsample")):
            continue
        norm = next((getattr(block, name) for name in LAST_NORMS if hasattr(block, name)), None)
        gamma = getattr(norm, "weight", None)
        if isinstance(gamma, Tensor):
            gammas.append(gamma)
    return gammas


class ZeroGamma(Trick):
    """Goyal et al. 2017, 1706.02677, section 5.1."""

    info: ClassVar = Info(
        name="zero_gamma",
        family="architecture",
        summary="start residual blocks as the identity",
        paper="Goyal et al. 2017, arXiv:1706.02677; He, Zhang, Zhang, Zhang, Xie, Li 2018, arXiv:1812.01187",
        formula="the scale of the last normalisation of every residual branch is 0 at the start, not 1",
        expect=(
            "Helps deep residual nets with large batches and learning rates in the first epochs. Near "
            "nothing in shallow nets."
        ),
        differs="nothing; timm's own switch for it is off in the baseline",
        measured=(
            "−1.7 points [−2.9, −0.5] on digits and −1.6 [−2.4, −0.8] on noisy digits (n = 10): training is too short "
            "for branches that start at nothing. With twice the epochs it is −0.4 [−3.0, 2.2] (n = 5; harness ablate "
            "zero_gamma --set recipe.epochs=160 --experiment digits --seeds 5)."
        ),
    )

    @at(InitStage.DRAW)
    def init(self, model: Classifier, run: Run) -> None:
        """Zero the scales."""
        gammas = last_gammas(model)
        if not gammas:
            raise NoEffect("needs residual blocks that end in a norm with a scale, and the model has none")
        for gamma in gammas:
            nn.init.zeros_(gamma)
