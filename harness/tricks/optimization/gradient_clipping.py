"""Gradient clipping: bound the gradient's norm, or each of its values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, GradientStage, Info, Run, Search, Trick, at


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
            "16 bits. Changes nothing where the norm stays below c, and acts like a lower rate where it is "
            "always above."
        ),
        differs=(
            "`kind = 'value'` is an addition; acts at the gradients' true scale, after every other change of them"
        ),
    )
    limit: Annotated[float, Field(gt=0), Search(0.1, 10.0, log=True)] = 1.0
    kind: Annotated[Literal["norm", "value"], Choice(("norm", "value"))] = "norm"

    @at(GradientStage.CLIP)
    def on_gradients(self, parameters: list[nn.Parameter], run: Run) -> None:
        """Clip in place. A gradient that is not finite stays so: the run must end as diverged."""
        if self.kind == "norm":
            nn.utils.clip_grad_norm_(parameters, self.limit, error_if_nonfinite=False)
        else:
            nn.utils.clip_grad_value_(parameters, self.limit)
