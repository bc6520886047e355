"""Gradient clipping: bound the gradient's norm, or each of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, GradientStage, Info, NoEffect, Run, Search, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class GradientClipping(Trick):
    """Pascanu, Mikolov, Bengio 2012, 1211.5063, section 3.2, algorithm 1."""

    info: ClassVar = Info(
        name="gradient_clipping",
        family="optimization",
        summary="bound the length of the gradient",
        paper="Pascanu, Mikolov, Bengio 2012, arXiv:1211.5063",
        formula="norm: g = g min(1, c / |g|) over all weights together; value: each entry cut to [-c, c]",
        expect=(
            "Helps where single batches have huge gradients: large rates, no normalisation, hard losses, "
            "16 bits. Changes nothing where the norm stays below c. Where it is always above, SGD takes steps of the "
            "gradient's direction alone, whose length the schedule decides, and Adam, which has no scale, hardly "
            "notices."
        ),
        differs=(
            "`kind = 'value'` is an addition. Acts at the gradients' true scale, of the whole step where it has "
            "several passes, and before weight decay and centralisation, which are the optimizer's. The paper "
            "finds half to ten times the mean norm of a run good for c; the default is a common one of recipes, "
            "whatever the norm is, and a c that no gradient reaches is refused"
        ),
    )
    limit: Annotated[float, Field(gt=0), Search(0.1, 10.0, log=True)] = 1.0
    kind: Annotated[Literal["norm", "value"], Choice(("norm", "value"))] = "norm"

    def prepare(self, run: Run) -> None:
        """Make room for whether anything was ever clipped."""
        run.state[self.name] = {"acted": torch.zeros((), dtype=torch.bool, device=run.device)}

    @at(GradientStage.CLIP)
    def on_gradients(self, parameters: list[nn.Parameter], run: Run) -> None:
        """Clip in place. A gradient that is not finite stays so: the run must end as diverged."""
        if self.kind == "norm":
            size = nn.utils.clip_grad_norm_(parameters, self.limit, error_if_nonfinite=False)
        else:
            gradients = [p.grad for p in parameters if p.grad is not None]
            size = torch.stack(torch._foreach_norm(gradients, ord=torch.inf)).amax()
            nn.utils.clip_grad_value_(parameters, self.limit)
        run.state[self.name]["acted"].logical_or_(size > self.limit)

    def finalize(self, model: Classifier, run: Run) -> Classifier:
        """Refuse a run in which no gradient was ever above the limit."""
        if not run.rehearsal and not run.state[self.name]["acted"]:  # one step shows nothing
            raise NoEffect(f"no gradient ever left limit = {self.limit:g}, so this was the baseline")
        return model
