"""Gradient centralisation: gradients of weights lose their mean over the inputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.tricks.contract import GradientStage, Info, Run, Trick, at


def centralized(gradient: Tensor) -> Tensor:
    """The gradient of a weight (out, in, ...) minus its mean over all axes but the first."""
    return gradient - gradient.mean(tuple(range(1, gradient.ndim)), keepdim=True)


class GradientCentralization(Trick):
    """Yong et al. 2020, 2004.01461, equation 1."""

    info: ClassVar = Info(
        name="gradient_centralization",
        family="optimization",
        summary="remove the mean over the inputs from each filter's gradient",
        paper="Yong, Huang, Hua, Zhang 2020, arXiv:2004.01461",
        formula="g = g - mean of g over the fan-in, for every weight with two or more axes",
        expect=("Near nothing to slightly helpful with SGD from scratch and in fine-tuning; costs next to nothing."),
        differs="nothing; convolutions and linear layers, before clipping and weight decay",
        cost=1.01,
    )

    @at(GradientStage.TRANSFORM)
    def on_gradients(self, parameters: list[nn.Parameter], run: Run) -> None:
        """Centralise every gradient with two or more axes."""
        with torch.no_grad():
            for p in parameters:
                if p.grad is not None and p.grad.ndim > 1:
                    p.grad.copy_(centralized(p.grad))
