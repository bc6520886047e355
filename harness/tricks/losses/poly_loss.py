"""PolyLoss: change the first coefficient of the polynomial expansion of the cross-entropy."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Info, NoOp, Run, Search, Trick


def poly_loss(logits: Tensor, y: Tensor, eps: float) -> Tensor:
    """Cross-entropy + eps (1 - p_t) of each example, (N,), with p_t = sum_k y_k p_k."""
    log_p = F.log_softmax(logits, dim=-1)
    return -(y * log_p).sum(-1) + eps * (1 - (y * log_p.exp()).sum(-1))


class PolyLoss(Trick):
    """Leng et al. 2022, 2204.12511, Poly-1."""

    info: ClassVar = Info(
        name="poly_loss",
        family="losses",
        summary="cross-entropy plus eps (1 - p_t)",
        paper="Leng, Tan, Liu, Cubuk, Shi, Cheng, Anguelov 2022, arXiv:2204.12511",
        formula="-sum_k y_k log p_k + eps (1 - p_t), p_t = sum_k y_k p_k, p = softmax(logits)",
        expect=(
            "Near nothing: for one-hot targets the gradient is the cross-entropy's times 1 + eps p_t, which "
            "mostly acts as a larger learning rate late in training. A good null arm."
        ),
        differs=(
            "nothing for one-hot targets; the paper defines p_t for these only. eps = 2 is its value for ImageNet"
        ),
    )
    eps: Annotated[float, Field(ge=-1), Search(-1.0, 6.0), NoOp(0)] = 2.0

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """Poly-1 loss of each example."""
        return poly_loss(logits, y, self.eps)
