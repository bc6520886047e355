"""Bootstrapping: the target is in part what the network believes already."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Choice, Info, NoOp, Run, Search, Trick

Belief = Literal["soft", "hard"]

BETA = {"soft": 0.95, "hard": 0.8}
"""The paper's values."""


def bootstrap(logits: Tensor, y: Tensor, beta: float, belief: Belief) -> Tensor:
    """-sum_k [beta y_k + (1 - beta) b_k] log p_k of each example, (N,); b is p, or one-hot at its largest."""
    log_p = F.log_softmax(logits, dim=-1)
    own = log_p.exp() if belief == "soft" else F.one_hot(log_p.argmax(-1), y.shape[-1]).to(y.dtype)
    return -((beta * y + (1 - beta) * own) * log_p).sum(-1)


class Bootstrap(Trick):
    """Reed et al. 2014, 1412.6596, section 3.3."""

    info: ClassVar = Info(
        name="bootstrap",
        family="losses",
        summary="let the target be in part the own prediction",
        paper="Reed, Lee, Anguelov, Szegedy, Erhan, Rabinovich 2014, arXiv:1412.6596, section 3.3",
        formula="-sum_k [beta y_k + (1 - beta) b_k] log p_k; soft: b = p, hard: b = one-hot(argmax p)",
        expect=(
            "Meant for wrong labels, which the network's own guess dilutes. Small gains in the paper; with clean "
            "labels a little more confidence and nothing else. From the first step it also confirms early mistakes."
        ),
        differs="nothing: as in the paper, the gradient of the soft form goes through both p",
    )
    belief: Annotated[Belief, Choice(("soft", "hard"))] = "soft"
    beta: Annotated[
        float | None,
        Field(ge=0, le=1, description="0.95 for soft and 0.8 for hard"),
        Search(0.5, 0.99, log1m=True),
        NoOp(1),
    ] = None

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Bootstrapped cross-entropy of each example."""
        return bootstrap(logits, y, BETA[self.belief] if self.beta is None else self.beta, self.belief)
