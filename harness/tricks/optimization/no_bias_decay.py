"""No bias decay: weight decay on the weights of convolutions and linear layers only."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch.optim import Optimizer

from harness.tricks.contract import Choice, Groups, Info, NoEffect, Run, Trick
from harness.tricks.optimizers import exempt, vectors


class NoBiasDecay(Trick):
    """Jia et al. 2018, 1807.11205, section 3.2; He et al. 2018, 1812.01187, section 3.1."""

    info: ClassVar = Info(
        name="no_bias_decay",
        family="optimization",
        summary="no weight decay on biases and normalisation",
        paper="Jia et al. 2018, arXiv:1807.11205; He et al. 2018, arXiv:1812.01187",
        formula=("wd = 0 for biases and for scale and shift of normalisations; wd as it was for all other weights"),
        expect=(
            "Small gains at large batches and large weight decay. Hardly anything at the decay of small "
            "nets; in most libraries this is silently on."
        ),
        differs=(
            "`scope` is an addition; other vectors, such as layer scales and learned slopes, count as normalisation, "
            "and so does what a network of timm names in no_weight_decay(), such as a transformer's position embedding."
        ),
    )
    scope: Annotated[Literal["bias", "norm", "bias+norm"], Choice(("bias", "norm", "bias+norm"))] = "bias+norm"

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Split every group."""
        split = exempt(groups, vectors(run.model, self.scope))
        if not any(group.get("weight_decay") == 0 for group in split):
            raise NoEffect(f"the model has no parameter of scope '{self.scope}'")
        return split

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Refuse to pretend when nothing decays anyway."""
        if not any(group.get("weight_decay", 1) for group in optimizer.param_groups):
            raise NoEffect("no weight decay to be spared from; set recipe.weight_decay")
        return optimizer
