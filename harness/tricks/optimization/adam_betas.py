"""Adam with a short memory: betas 0.7 and 0.99 in place of 0.9 and 0.999."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, Search
from harness.tricks.optimizers import CoupledAdam


class AdamBetas(CoupledAdam):
    """Howard & Ruder 2018, 1801.06146, section 4.1, for fine-tuning language models."""

    info: ClassVar = Info(
        name="adam_betas",
        family="optimization",
        summary="Adam with betas (0.7, 0.99), a shorter memory than the usual one",
        paper="Howard, Ruder 2018, arXiv:1801.06146; Adam: Kingma, Ba 2014, arXiv:1412.6980",
        formula="m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, bias-corrected; w = w - lr m / (sqrt(v) + eps)",
        expect=(
            "Compare it with the arm `adam` at the same rate, since the baseline may be SGD. A short memory follows "
            "gradients whose size changes, as in fine-tuning and short runs of few hundred updates; the steps are "
            "noisier, so expect a loss at high rates and small batches. The source reports no ablation of it."
        ),
        differs=(
            "Images and training from scratch in place of fine-tuned text models; the source uses (0.7, 0.99) with "
            "its own schedule. Weight decay is coupled, as in `adam`; eps = 1e-8."
        ),
    )
    beta1: Annotated[float, Field(ge=0, lt=1), Search(0.5, 0.95, log1m=True)] = 0.7
    beta2: Annotated[float, Field(ge=0, lt=1), Search(0.9, 0.9999, log1m=True)] = 0.99
