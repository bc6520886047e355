"""TRADES: predictions on attacked images must be those on the clean ones."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Info, NoOp, Run, Search, Trick
from harness.tricks.images import attack_radius, pixel_gradient
from harness.tricks.modules import frozen_statistics, mode

START = 1e-3
"""Standard deviation of the noise from which the attack starts, as in the authors' code."""


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(attacked)) of logits (N, K), summed over the batch."""
    log_p, log_q = clean.log_softmax(-1), attacked.log_softmax(-1)
    return F.kl_div(log_q, log_p, reduction="sum", log_target=True)


class Trades(Trick):
    """Zhang et al. 2019, 1901.08573, section 3.3 and algorithm 1."""

    info: ClassVar = Info(
        name="trades",
        family="adversarial",
        summary="hold predictions on attacked images to those on clean ones",
        paper="Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan 2019, arXiv:1901.08573, section 3.3, algorithm 1",
        formula=(
            "L(x) + beta mean KL(p(x) || p(x')), x' = x + 0.001 noise moved k times by step eps sign grad KL(p(x) || "
            "p(x')), within eps of x and in [0, 1]"
        ),
        expect=(
            "Helps accuracy under attack, with beta to choose how much clean accuracy it costs: in the paper a wide "
            "ResNet on CIFAR-10 has 85 % clean and 57 % attacked. Judge it on attacked images, not on clean ones only."
        ),
        differs=(
            "Running statistics of batch normalisation follow the clean pass alone. step = eps / 4 (0.007 of 0.031 in "
            "the paper). eps is in pixels of [0, 1]; by default 8/255 for colour and 0.1 for grey images."
        ),
        cost=9.0,
    )
    beta: Annotated[float, Field(ge=0), Search(1.0, 10.0, log=True), NoOp(0)] = 6.0
    eps: Annotated[float | None, Field(ge=0, le=1), Search(1 / 255, 0.3, log=True), NoOp(0)] = None
    step: Annotated[float, Field(gt=0), Search(0.1, 1.0)] = 0.25
    k: Annotated[int, Field(ge=1), Search(1, 10)] = 10

    def attack(self, x: Tensor, run: Run) -> Tensor:
        """Images near x on which the prediction is far from that on x; both in evaluation mode."""
        eps, g = attack_radius(self.eps, run.data), run.rng(self.name)
        with mode(run.model, training=False):
            with torch.no_grad(), run.autocast():
                clean = run.model(x).float()
            attacked = x + START * torch.randn(x.shape, generator=g, device=x.device)
            for _ in range(self.k):
                gradient = pixel_gradient(run, attacked, lambda logits: divergence(clean, logits))
                change = (attacked + self.step * eps * gradient.sign() - x).clamp(-eps, eps)
                attacked = (x + change).clamp(0, 1)
        return attacked

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The divergence under attack; both predictions learn."""
        attacked = self.attack(batch.x, run)
        with frozen_statistics(run.model), run.autocast():
            other: Tensor = run.model(attacked)
        return {"robust": self.beta * divergence(logits, other.float()) / len(logits)}
