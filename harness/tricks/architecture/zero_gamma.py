"""Zero gamma: residual blocks start as the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from harness.tricks.contract import Info, InitStage, NoEffect, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

LAST_NORMS = ("norm3", "norm2", "bn3", "bn2")
"""Names of a residual branch's norms, here and in timm; the first that a block has is its last."""


def last_gammas(model: Classifier) -> list[Tensor]:
    """The scale of the last norm of every residual branch.

    A library that lets them start at zero has said which they are. Else they are those of the modules that have a
    shortcut (timm: downsample).
    """
    modules = dict(model.net.named_modules())
    known = [getattr(modules.get(path), "weight", None) for path in model.builtin.last_norms]
    gammas = [gamma for gamma in known if isinstance(gamma, Tensor)]
    if gammas:
        return gammas
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
        differs=(
            "nothing. timm lets the last norms of many networks start at zero: in the baseline they start at one, and "
            "here at zero again. Layer scale, the same idea with a factor of its own, starts at one in the baseline, "
            "too, and stays there. `harness doctor timm/NAME` says what a network had."
        ),
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
            raise NoEffect("needs residual blocks that are known to end in a norm with a scale, and the model has none")
        if not any(bool(gamma.any()) for gamma in gammas):
            raise NoEffect("the last norms start at zero already, as model.args ask for; leave that argument out")
        for gamma in gammas:
            nn.init.zeros_(gamma)
