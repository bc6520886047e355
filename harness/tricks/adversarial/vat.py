"""Virtual adversarial training: predictions are smooth in the direction in which they change most."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Info, NoOp, Run, Search, Trick
from harness.tricks.images import pixel_gradient
from harness.tricks.modules import frozen_statistics


def unit(d: Tensor) -> Tensor:
    """Each image's direction (N, C, H, W), scaled to a root mean square of one over its values."""
    scaled: Tensor = F.normalize(d.flatten(1)).view_as(d) * d[0].numel() ** 0.5
    return scaled


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(other)) of logits (N, K), summed over the batch."""
    return F.kl_div(other.log_softmax(-1), logits.log_softmax(-1), reduction="sum", log_target=True)


class Vat(Trick):
    """Miyato et al. 2017, 1704.03976, sections 3.1 to 3.3."""

    info: ClassVar = Info(
        name="vat",
        family="adversarial",
        summary="smooth predictions in the direction in which they change most",
        paper="Miyato, Maeda, Koyama, Ishii 2017, arXiv:1704.03976, sections 3.1 to 3.3",
        formula=(
            "L + weight mean KL(p(x) || p(x + r)), p(x) held fixed, r = eps d / rms(d), d = grad KL(p(x) || p(x + "
            "xi d)) from a random d, `power` times"
        ),
        expect=(
            "Needs no labels, and the papers gain most where few images have one. Fully labelled it is adversarial "
            "training against the own prediction: 1.1 % to 0.64 % error on MNIST in the paper. Too large an eps "
            "flattens predictions."
        ),
        differs=(
            "Labelled images only. eps and xi are root mean squares over the values of an image: 0.07 is the paper's "
            "norm of 2 on MNIST. xi = 1e-3, since 1e-6 is lost in single precision. The extra passes normalise by "
            "their own batch and leave running statistics alone."
        ),
        cost=3.0,
    )
    weight: Annotated[float, Field(ge=0), Search(0.1, 10.0, log=True), NoOp(0)] = 1.0
    eps: Annotated[float, Field(ge=0), Search(0.01, 0.3, log=True), NoOp(0)] = 0.07
    xi: Annotated[float, Field(gt=0), Search(1e-4, 1e-1, log=True)] = 1e-3
    power: Annotated[int, Field(ge=1), Search(1, 3)] = 1

    def direction(self, x: Tensor, logits: Tensor, run: Run) -> Tensor:
        """The direction of the largest change, by power iteration, with a root mean square of one."""
        d = unit(torch.randn(x.shape, generator=run.rng(self.name), device=x.device))
        for _ in range(self.power):
            d = unit(pixel_gradient(run, x + self.xi * d, lambda other: divergence(logits, other)))
        return d

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The divergence in that direction."""
        held = logits.detach()
        moved = batch.x + self.eps * self.direction(batch.x, held, run)
        with frozen_statistics(run.model), run.autocast():
            other: Tensor = run.model(moved)
        return {"smooth": self.weight * divergence(held, other.float()) / len(logits)}
