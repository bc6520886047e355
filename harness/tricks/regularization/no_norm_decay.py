"""No weight decay on scales and shifts of normalisations."""

from __future__ import annotations

from typing import ClassVar

from torch.optim import Optimizer

from harness.tricks.contract import Groups, Info, NoEffect, Run, Trick
from harness.tricks.optimizers import exempt, vectors


class NoNormDecay(Trick):
    """Torchvision's recipe of 2021 (norm_weight_decay = 0); Jia et al. 2018, 1807.11205, section 3.2."""

    info: ClassVar = Info(
        name="no_norm_decay",
        family="regularization",
        summary="no weight decay on normalisations alone",
        paper="torchvision 2021 (norm_weight_decay = 0); Jia et al. 2018, arXiv:1807.11205, section 3.2",
        formula="wd = 0 for scale and shift of normalisations; biases of other layers decay on",
        expect=(
            "Half a point together with a decay that was tuned for it in torchvision's recipe, which is no fair "
            "estimate of it alone. Hardly anything at the decay of small nets."
        ),
        differs=(
            "It is no_bias_decay with scope = 'norm', under the name of the recipes that spare norms only. Other "
            "vectors, such as layer scales, count as normalisation."
        ),
        excludes={"no_bias_decay": "it spares the same parameters, or all vectors"},
    )

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split every group."""
        split = exempt(groups, vectors(run.model, "norm"))
        if not any(group.get("weight_decay") == 0 for group in split):
            raise NoEffect("the model has no scale or shift of a normalisation")
        return split

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Refuse to pretend when nothing decays anyway."""
        if not any(group.get("weight_decay", 1) for group in optimizer.param_groups):
            raise NoEffect("no weight decay to be spared from; set recipe.weight_decay")
        return optimizer
