"""Warm-up, stable, decay: a trapezoid whose decay can begin at any time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from harness.tricks.contract import Choice, Info, Run, Schedule, Search, Trick

Shape = Literal["linear", "1-sqrt", "cosine"]

FALLS: dict[Shape, Callable[[float], float]] = {
    "linear": lambda done: 1 - done,
    "1-sqrt": lambda done: 1 - math.sqrt(done),
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
"""From one to zero as the share of the decay that is done goes from zero to one."""


class Wsd(Trick):
    """Hu et al. 2024, 2404.06395, section 4.2; Haegele et al. 2024, 2405.18392, sections 3 and 4.

    warmup, decay: shares of the training.
    """

    info: ClassVar = Info(
        name="wsd",
        family="optimization",
        summary="ramp the learning rate up, hold it, and let it fall at the end",
        paper="Hu et al. 2024, arXiv:2404.06395; Haegele et al. 2024, arXiv:2405.18392; airbench 2404.00498",
        formula=(
            "factor = (t + 1) / W in the warm-up of W updates, 1, then f(d) with d the share of the decay that is "
            "done: "
            "1 - d (linear), 1 - sqrt(d) (1-sqrt), (1 + cos(pi d)) / 2 (cosine)"
        ),
        expect=(
            "As good as a cosine of the same length in the papers, and a run can be prolonged from before its decay. "
            "With a decay of a fifth most of the gain of a full decay is there."
        ),
        differs="decay over a fifth of training, down to 0; the papers' are of language models and tune it",
    )
    warmup: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.2)] = 0.05
    decay: Annotated[float, Field(gt=0, le=1), Search(0.05, 0.8)] = 0.2
    shape: Annotated[Shape, Choice(("linear", "1-sqrt", "cosine"))] = "linear"

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup = {self.warmup:g} and decay = {self.decay:g} are shares of one training; "
                "let them add up to at most 1"
            )
        return self

    def schedule(self, run: Run) -> Schedule:
        """A trapezoid over the whole training."""
        tick, begin, fall = 1 / run.total_steps, 1 - self.decay, FALLS[self.shape]

        def factor(progress: float) -> float:
            up = min(1.0, (progress + tick) / self.warmup) if self.warmup else 1.0
            return up * (fall((progress - begin) / self.decay) if progress > begin else 1.0)

        return factor
