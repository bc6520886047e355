"""Cross-entropy the wrong way: a logarithm that underflows, or a softmax too many."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from harness.tricks.contract import Choice, Info, NoEffect, Run, Trick
from harness.tricks.functional import soft_cross_entropy

Form = Literal["log_softmax", "log_of_softmax", "double_softmax"]


def cross_entropy(logits: Tensor, y: Tensor, form: Form) -> Tensor:
    """-sum_k y_k log p_k of each example, (N,), computed in one of three forms.

    log_softmax: the right one. log_of_softmax: infinite where the target's p underflows, and its gradient is
    not a number where any p does. double_softmax: softmax(logits) is mistaken for logits.
    """
    if form == "log_softmax":
        return soft_cross_entropy(logits, y)
    p = logits.softmax(-1)
    if form == "double_softmax":
        return soft_cross_entropy(p, y)
    return -torch.where(y > 0, y * p.log(), 0.0).sum(-1)


class LogSoftmaxCe(Trick):
    """Not a remedy but two common mistakes, to see what they cost."""

    info: ClassVar = Info(
        name="log_softmax_ce",
        family="losses",
        kind="fault",
        summary="a fault arm: the softmax taken twice, or its logarithm taken naively",
        paper="folklore; on the log-sum-exp: Blanchard, Higham, Higham 2019, arXiv:1909.03469",
        formula=(
            "double_softmax: -sum_k y_k log softmax(softmax(z))_k; log_of_softmax: -sum_k y_k log(softmax(z)_k) "
            "without the shared maximum; log_softmax: -sum_k y_k (z_k - logsumexp(z))"
        ),
        expect=(
            "This is a fault. double_softmax still learns, but its loss cannot fall below "
            "log(1 + (K - 1) / e) (1.46 for K = 10), gradients are small, fitting is slow and confidence is "
            "wrong. log_of_softmax equals the baseline but for rounding, until logits differ by about 100; then "
            "the run diverges. log_softmax is the baseline's own loss and is refused."
        ),
        differs="there is no paper that proposes it",
        measured=(
            "As expected of a fault: −35.2 points [−41.5, −29.0] on digits, −50.5 [−56.7, −44.3] on noisy digits (n = "
            "10)."
        ),
    )
    form: Annotated[Form, Choice(("double_softmax", "log_of_softmax", "log_softmax"))] = "double_softmax"

    def prepare(self, run: Run) -> None:
        """Refuse the right form."""
        if self.form == "log_softmax":
            raise NoEffect("the baseline computes its loss by log_softmax already")

    def criterion(self, logits: Tensor, y: Tensor, run: Run) -> Tensor:
        """The faulty loss of each example."""
        return cross_entropy(logits, y, self.form)
