"""Asymmetric loss: focus on what is wrongly believed more than on what is wrongly denied."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Choice, Info, NoEffect, Run, Search, Trick


def single_label(logits: Tensor, y: Tensor, positive: float, negative: float, eps: float) -> Tensor:
    """-sum_k s_k w_k log p_k of each example, (N,), for smoothed targets s and focal weights w.

    w_k = y_k (1 - p_k)^positive + (1 - y_k) p_k^negative, p = softmax(logits), s = (1 - eps) y + eps / K.
    """
    log_p = F.log_softmax(logits, dim=-1)
    p = log_p.exp()
    weight = y * (1 - p).clamp(min=1e-7) ** positive + (1 - y) * p.clamp(min=1e-7) ** negative
    return -(((1 - eps) * y + eps / y.shape[-1]) * weight * log_p).sum(-1)


def multi_label(logits: Tensor, y: Tensor, positive: float, negative: float, margin: float) -> Tensor:
    """-sum_k y_k (1 - p_k)^positive log p_k + (1 - y_k) m_k^negative log(1 - m_k), (N,), m = max(p - margin, 0)."""
    p = logits.sigmoid()
    shifted = (p - margin).clamp(min=1e-7)
    yes = (1 - p).clamp(min=1e-7) ** positive * F.logsigmoid(logits)
    no = shifted**negative * (1 - shifted).clamp(min=1e-7).log()
    return -(y * yes + (1 - y) * no).sum(-1)


class AsymmetricLoss(Trick):
    """Ridnik et al. 2020, 2009.14119, section 2; for single labels the form in the authors' code."""

    info: ClassVar = Info(
        name="asymmetric_loss",
        family="losses",
        summary="focal weights that differ for the right and the wrong classes",
        paper="Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor 2020, arXiv:2009.14119, section 2",
        formula=(
            "softmax: -sum_k s_k w_k log p_k, w = (1 - p)^gamma_pos at the target and p^gamma_neg elsewhere, s "
            "smoothed by eps; sigmoid: -[y (1 - p)^gamma_pos log p + (1 - y) m^gamma_neg log(1 - m)], m = max(0, "
            "p - margin)"
        ),
        expect=(
            "Made for many labels per image, nearly all negative, where easy negatives drown the rest. With one label "
            "and softmax it is little more than label smoothing that spares improbable classes: expect as little."
        ),
        differs=(
            "The paper has several labels an image and the sigmoid; `head = 'softmax'` is the authors' loss for one "
            "label, timm's AsymmetricLossSingleLabel. Smoothing acts on mixed targets as on one-hot ones."
        ),
    )
    head: Annotated[Literal["softmax", "sigmoid"], Choice(("softmax", "sigmoid"))] = "softmax"
    gamma_pos: Annotated[float, Field(ge=0), Search(0.0, 2.0)] = 0.0
    gamma_neg: Annotated[float, Field(ge=0), Search(0.0, 6.0)] = 4.0
    eps: Annotated[float, Field(ge=0, lt=1, description="of softmax only"), Search(0.01, 0.3)] = 0.1
    margin: Annotated[float, Field(ge=0, lt=1, description="of sigmoid only"), Search(0.0, 0.2)] = 0.05

    def prepare(self, run: Run) -> None:
        """Refuse the cross-entropy."""
        if self.head == "softmax" and self.gamma_pos == self.eps == 0:
            raise NoEffect(
                "without smoothing wrong classes have no loss, so gamma_pos = 0 and eps = 0 are the baseline"
            )

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """The asymmetric loss of each example."""
        if self.head == "softmax":
            return single_label(logits, y, self.gamma_pos, self.gamma_neg, self.eps)
        return multi_label(logits, y, self.gamma_pos, self.gamma_neg, self.margin)
