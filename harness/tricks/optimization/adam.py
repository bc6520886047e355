"""Adam: steps of nearly equal size in every coordinate, with weight decay in the gradient."""

from __future__ import annotations

from typing import ClassVar

from harness.tricks.contract import Info
from harness.tricks.optimizers import CoupledAdam


class Adam(CoupledAdam):
    """Kingma & Ba 2014, 1412.6980, algorithm 1."""

    info: ClassVar = Info(
        name="adam",
        family="optimization",
        summary="Adam instead of the recipe's optimizer",
        paper="Kingma, Ba 2014, arXiv:1412.6980",
        formula="w = w - lr m / (sqrt(v) + eps), m and v the bias-corrected means of g and g^2, g with wd w added",
        expect=(
            "Helps where rates were never tuned, gradients differ much in size, and nets without normalisation. The "
            "paper compares training losses only; well-tuned SGD with momentum often generalises better on small "
            "convolutional nets. Compare at each one's own tuned rate."
        ),
        differs=(
            "Weight decay, which the paper does not have, is coupled: it passes through the moments, so weights with "
            "large gradients decay less; adamw decouples it. The schedule is the recipe's; eps = 1e-8."
        ),
    )
