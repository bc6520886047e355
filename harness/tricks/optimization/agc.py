"""Adaptive gradient clipping: bound each unit's gradient by the size of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import GradientStage, Info, NoEffect, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def unit_norms(x: Tensor) -> Tensor:
    """L2 norm of each unit, the first axis of a weight, shaped to divide it; of a vector or scalar the whole norm."""
    if x.ndim <= 1:
        whole: Tensor = torch.linalg.vector_norm(x)
        return whole
    each: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)
    return each


class Agc(Trick):
    """Brock, De, Smith & Simonyan 2021, 2102.06171, section 4.1.

    limit: largest ratio of gradient to weight. eps: weights count as at least that long.
    """

    info: ClassVar = Info(
        name="agc",
        family="optimization",
        summary="bound the gradient of each unit by the size of its weights",
        paper="Brock, De, Smith, Simonyan 2021, arXiv:2102.06171",
        formula="g_i = g_i min(1, c max(|w_i|, eps) / |g_i|) for each unit i (row of a weight), the head left out",
        expect=(
            "Made for nets without normalisation at large batches and rates. With batch normalisation, whose weights "
            "have no scale of their own, mostly a lower rate where it acts at all."
        ),
        differs="nothing; biases and other vectors count as one unit, as in timm's code",
        cost=1.05,
    )
    limit: Annotated[float, Field(gt=0), Search(1e-3, 0.2, log=True)] = 0.01
    eps: Annotated[float, Field(gt=0), Search(1e-4, 1e-2, log=True)] = 1e-3

    def prepare(self, run: Run) -> None:
        """Make room for whether anything was ever clipped."""
        run.state[self.name] = {"acted": torch.zeros((), dtype=torch.bool, device=run.device)}

    @at(GradientStage.CLIP)
    @torch.no_grad()
    def on_gradients(self, parameters: list[nn.Parameter], run: Run) -> None:
        """Clip in place. A gradient that is not finite stays so: the run must end as diverged."""
        head = set(run.model.head.parameters())
        for p in parameters:
            if p.grad is None or p in head:
                continue
            most = self.limit * unit_norms(p).clamp(min=self.eps)
            size = unit_norms(p.grad)
            run.state[self.name]["acted"].logical_or_((size > most).any())
            p.grad.mul_((most / size.clamp(min=1e-12)).clamp(max=1.0))

    def finalize(self, model: Classifier, run: Run) -> Classifier:
        """Refuse a run in which no gradient was ever above the limit."""
        if not run.rehearsal and not run.state[self.name]["acted"]:  # one step shows nothing
            raise NoEffect(f"no unit's gradient ever left limit = {self.limit:g}, so this was the baseline")
        return model
