"""Early-learning regularisation: predictions stay near what they were on average, for wrong labels."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import MIXING, Batch, Info, NoOp, Run, Search, Trick

LEAST = 1e-4
"""Probabilities are kept this far from zero and one, as in the authors' code."""


def agreement(p: Tensor, target: Tensor) -> Tensor:
    """Mean of log(1 - sum_k p_k t_k) over the batch, for (N, K): the more negative, the more they agree."""
    return (1 - (p * target).sum(-1)).log().mean()


class Elr(Trick):
    """Liu et al. 2020, 2007.00151, section 4."""

    info: ClassVar = Info(
        name="elr",
        family="losses",
        summary="hold predictions near their running averages, for wrong labels",
        paper="Liu, Niles-Weed, Razavian, Fernandez-Granda 2020, arXiv:2007.00151, section 4",
        formula=(
            "L + lam mean log(1 - <p, t>), t_i = beta t_i + (1 - beta) p_i at every visit of image i, p the softmax, "
            "without its gradient"
        ),
        expect=(
            "Keeps a network from memorising wrong labels after it has learned the right ones: with 40 % noise on "
            "CIFAR-10 the paper ends some 7 to 20 points above cross-entropy. Needs epochs enough to memorise; with "
            "clean labels nothing, or slightly less."
        ),
        differs=(
            "nothing: lam and beta are the paper's for CIFAR-10 (7 and 0.9 for CIFAR-100). Its longer form with two "
            "networks and mixup (ELR+) is not here."
        ),
        excludes={MIXING: "the averages are those of single images"},
    )
    lam: Annotated[float, Field(ge=0), Search(0.3, 10.0, log=True), NoOp(0)] = 3.0
    beta: Annotated[float, Field(ge=0, lt=1), Search(0.5, 0.99, log1m=True)] = 0.7

    def prepare(self, run: Run) -> None:
        """Averages of zero for each training image, in the order of their indices."""
        index = torch.unique(run.train.index.to(run.device))
        state = {"index": index, "average": torch.zeros(len(index), len(run.data.classes), device=run.device)}
        run.state[self.name] = state

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """Move the averages of these images, the first time that a step sees them, and compare with them."""
        state = run.state[self.name]
        rows = torch.searchsorted(state["index"], batch.index)
        p = logits.softmax(-1).clamp(LEAST, 1 - LEAST)
        if not run.again:
            own = p.detach()
            moved = self.beta * state["average"][rows] + (1 - self.beta) * own / own.sum(-1, keepdim=True)
            state["average"].index_copy_(0, rows, moved)
        return {"agreement": self.lam * agreement(p, state["average"][rows])}
