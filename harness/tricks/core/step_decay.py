"""Step and exponential decay: the classic schedules that a cosine is compared with."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from harness.tricks.contract import Choice, Info, Run, Schedule, Search, Trick
from harness.tricks.functional import step

MILESTONES = (0.5, 0.75)


def exponential(gamma: float) -> Schedule:
    """Gamma ** progress: a smooth fall that reaches `gamma` at the end of training."""
    return lambda progress: gamma**progress


class StepDecay(Trick):
    """He et al. 2015, 1512.03385, section 4.2, divide by ten at 50 % and 75 % of training on CIFAR-10."""

    info: ClassVar = Info(
        name="step_decay",
        family="core",
        summary="learning rate falls in steps, or exponentially",
        paper=(
            "He, Zhang, Ren, Sun 2015, arXiv:1512.03385; compared with a cosine in He et al. 2018, arXiv:1812.01187"
        ),
        formula=("milestones: lr gamma^(number of milestones passed); exponential: lr gamma^(t / T) at update t of T"),
        expect=(
            "Helps against a constant rate. Steps keep the rate high for long, which regularises; the "
            "exponential leaves it early and usually ends lower in accuracy."
        ),
        differs="milestones and the exponential count fractions of training, so a longer run stretches them",
    )
    kind: Annotated[Literal["milestones", "exponential"], Choice(("milestones", "exponential"))] = "milestones"
    gamma: Annotated[float, Field(gt=0, le=1), Search(0.05, 0.9, log=True)] = 0.1
    milestones: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(strict=False, min_length=1)] = (
        MILESTONES
    )

    @model_validator(mode="after")
    def _check(self) -> StepDecay:
        if self.kind == "exponential" and self.milestones != MILESTONES:
            raise ValueError("an exponential decay has no milestones; leave them out")
        return self

    def schedule(self, run: Run) -> Schedule:
        """Steps or an exponential over the whole training."""
        if self.kind == "exponential":
            return exponential(self.gamma)
        return step(self.milestones, self.gamma)
