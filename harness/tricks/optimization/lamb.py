"""LAMB: Adam whose update of each layer is as long as the rate times the layer's weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import RATE, Groups, Info, Run, Search
from harness.tricks.optimizers import OwnOptimizer


class Lamb(OwnOptimizer):
    """You et al. 2019, 1904.00962, algorithm 2."""

    info: ClassVar = Info(
        name="lamb",
        family="optimization",
        summary="Adam with a trust ratio for each layer",
        paper="You et al. 2019, arXiv:1904.00962; in recipes of ResNet-50: Wightman et al. 2021, arXiv:2110.00476",
        formula=(
            "u = m / (sqrt(v) + eps) + wd w, m and v bias-corrected means of g and g^2; w = w - lr u |w| / |u| in each "
            "tensor; all gradients are first cut to a joint norm of `clip`"
        ),
        expect=(
            "Made for batches of thousands; RSB trains ResNet-50 with it at 2048 images. At small batches a tuned SGD "
            "or AdamW is level or better. The rate is the relative change of a layer per update."
        ),
        differs=(
            "timm's: tensors without weight decay have no trust ratio, phi is the identity, and gradients are clipped "
            "at norm 1 before (NVIDIA's variant); eps = 1e-6. The default rate is RSB's of 2048 images"
        ),
        cost=1.1,
    )
    decay: ClassVar = "inside"
    lr: Annotated[float, Field(gt=0), Search(5e-4, 5e-2, log=True), RATE] = 5e-3
    weight_decay: Annotated[float, Field(ge=0), Search(1e-3, 0.3, log=True)] = 0.02
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.8, 0.95, log1m=True)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.999, log1m=True)] = 0.999
    clip: Annotated[float, Field(gt=0), Search(0.1, 10.0, log=True)] = 1.0

    def build(self, groups: Groups, run: Run, **common: Any) -> torch.optim.Optimizer:
        """The one of timm."""
        from timm.optim.lamb import Lamb as Library

        betas = (self.beta1, self.beta2)
        built: torch.optim.Optimizer = Library(groups, betas=betas, max_grad_norm=self.clip, **common)
        return built
