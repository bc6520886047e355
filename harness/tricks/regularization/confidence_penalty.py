"""Confidence penalty: predictions of low entropy cost something."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Info, NoOp, Run, Search, Trick


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of softmax(logits) over the batch, in nats."""
    log_p = F.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(-1).mean()


class ConfidencePenalty(Trick):
    """Pereyra et al. 2017, 1701.06548, section 3.1."""

    info: ClassVar = Info(
        name="confidence_penalty",
        family="regularization",
        summary="reward the entropy of predictions",
        paper="Pereyra, Tucker, Chorowski, Kaiser, Hinton 2017, arXiv:1701.06548, section 3.1",
        formula="L - beta mean H(p), H(p) = -sum_k p_k log p_k, p = softmax(logits)",
        expect=(
            "Like label smoothing: small gains where networks grow overconfident, better calibration, and nothing "
            "where training is too short for that. A large beta leaves predictions flat."
        ),
        differs="nothing; the paper's hinge, which spares entropies above a threshold, and its annealing are not here",
    )
    beta: Annotated[float, Field(ge=0), Search(0.01, 1.0, log=True), NoOp(0)] = 0.1

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The negative entropy, weighted."""
        return {"confidence": -self.beta * entropy(logits)}
