"""Flat, then cosine: the learning rate stays at its peak and falls along half a cosine at the end."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, Run, Schedule, Search, Trick
from harness.tricks.functional import cosine


class FlatCos(Trick):
    """Wright 2019, the schedule of Ranger, as fastai's `fit_flat_cos`.

    start: share of training at which the fall begins. final: the last rate, as a factor on the peak.
    """

    info: ClassVar = Info(
        name="flat_cos",
        family="optimization",
        summary="hold the learning rate, and let it fall along a cosine at the end",
        paper="no paper: Wright 2019, with the optimizer Ranger; fastai's fit_flat_cos (Howard, Gugger, 2002.04688)",
        formula="factor = 1 before `start`, then final + (1 - final) (1 + cos(pi s)) / 2, s the share of the fall done",
        expect=(
            "Made for rectified or averaged optimizers, which need no warm-up, in short trainings: the boards of "
            "Imagenette use it. With SGD expect what a cosine gives, or less."
        ),
        differs="the optimizer is the recipe's; momentum stays",
    )
    start: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.9)] = 0.75
    final: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.1)] = 1e-5

    def schedule(self, run: Run) -> Schedule:
        """One, then half a cosine."""
        fall = cosine(self.final)
        return lambda progress: fall(max(0.0, (progress - self.start) / (1 - self.start)))
