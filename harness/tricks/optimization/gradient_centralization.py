"""Gradient centralisation: gradients of weights lose their mean over the inputs."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.tricks.contract import GradientStage, Info, Run, Trick, at
from harness.tricks.optimizers import coupled_decay


def fan_in_mean(gradient: Tensor) -> Tensor:
    """The mean of a weight's gradient (out, in, ...) over all axes but the first, which stay with length one."""
    return gradient.mean(tuple(range(1, gradient.ndim)), keepdim=True)


class GradientCentralization(Trick):
    """Yong et al. 2020, 2004.01461, equation 1; with weight decay as in their optimizers."""

    info: ClassVar = Info(
        name="gradient_centralization",
        family="optimization",
        summary="remove the mean over the inputs from each filter's gradient",
        paper="Yong, Huang, Hua, Zhang 2020, arXiv:2004.01461",
        formula=(
            "g = g - mean of g over the fan-in, for every weight with two or more axes; g is what momentum sees, with "
            "coupled weight decay in it"
        ),
        expect=("Near nothing to slightly helpful with SGD from scratch and in fine-tuning; costs next to nothing."),
        differs=(
            "nothing: in the order of the authors' SGD_GC, Adam_GC and AdamW_GC, after clipping and after coupled "
            "decay is added, while decoupled decay stays whole. The decay of LARS, LAMB and schedule-free SGD, for "
            "which they give no order, stays whole, too"
        ),
        cost=1.01,
        version=2,
    )

    @at(GradientStage.DECAY)
    @torch.no_grad()
    def on_gradients(self, parameters: list[nn.Parameter], run: Run) -> None:
        """Centralise every gradient with two or more axes, and in advance the decay that the optimizer adds."""
        for group in run.optimizer.param_groups:
            decay = coupled_decay(run.optimizer, group)
            for p in group["params"]:
                if p.grad is not None and p.ndim > 1:
                    p.grad.sub_(fan_in_mean(p.grad.add(p, alpha=decay) if decay else p.grad))
