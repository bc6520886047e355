"""One cycle: the learning rate rises to its peak and falls to almost nothing, momentum the other way round."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch.optim import Optimizer

from harness.tricks.contract import Choice, Info, NotApplicable, Run, Schedule, Search, Trick

Shape = Literal["cosine", "linear"]


def ease(start: float, end: float, done: float, shape: Shape) -> float:
    """From `start` to `end` as `done` goes from zero to one."""
    return start + (end - start) * (done if shape == "linear" else (1 - math.cos(math.pi * done)) / 2)


def cycle(ends: tuple[float, float, float], pct: float, steps: int, shape: Shape) -> Schedule:
    """From the first of `ends` to the second at update pct T - 1, and to the third at the last, T - 1."""
    peak, last = max(pct * steps - 1, 1e-9), steps - 1

    def value(progress: float) -> float:
        t = progress * steps
        if t <= peak:
            return ease(ends[0], ends[1], t / peak, shape)
        return ease(ends[1], ends[2], (t - peak) / (last - peak), shape)

    return value


class OneCycle(Trick):
    """Smith & Topin 2017, 1708.07120, with fastai's shape: cosines, the fall twice as long as the rise.

    pct: share of the training in which the rate rises. div: peak over first rate. final_div: first over last rate.
    low, high: momentum at the peak rate and at both ends; the same for Adam's beta1.
    """

    info: ClassVar = Info(
        name="one_cycle",
        family="optimization",
        summary="raise the learning rate to its peak and let it fall to nothing, momentum inversely",
        paper="Smith, Topin 2017, arXiv:1708.07120; Smith 2018, arXiv:1803.09820",
        formula=(
            "lr: peak / div -> peak over the share pct of training, then -> peak / (div final_div), along half "
            "cosines; "
            "momentum: high -> low -> high over the same times"
        ),
        expect=(
            "Bears peak rates far above those of step schedules, and fits in fewer epochs (super-convergence). At the "
            "baseline's own peak expect about what a cosine gives: search recipe.lr with it."
        ),
        differs=(
            "fastai's and torch's cosines for the paper's lines (`shape`), which end in a last short fall; the peak is "
            "the recipe's rate, not a range test's"
        ),
        eager="momentum changes from step to step",
    )
    pct: Annotated[float, Field(gt=0, lt=1), Search(0.1, 0.5)] = 0.3
    div: Annotated[float, Field(ge=1), Search(5.0, 50.0, log=True)] = 25.0
    final_div: Annotated[float, Field(ge=1), Search(1e2, 1e5, log=True)] = 1e4
    low: Annotated[float, Field(gt=0, lt=1), Search(0.7, 0.95, log1m=True)] = 0.85
    high: Annotated[float, Field(gt=0, lt=1), Search(0.85, 0.99, log1m=True)] = 0.95
    shape: Annotated[Shape, Choice(("cosine", "linear"))] = "cosine"

    def schedule(self, run: Run) -> Schedule:
        """The rate's cycle."""
        ends = (1 / self.div, 1.0, 1 / (self.div * self.final_div))
        return cycle(ends, self.pct, run.total_steps, self.shape)

    def wrap_optimizer(self, optimizer: Optimizer, run: Run) -> Optimizer:
        """Set momentum before every update."""
        group = optimizer.param_groups[0]
        if "momentum" not in group and "betas" not in group:
            raise NotApplicable(f"{type(optimizer).__name__} has no momentum that could be cycled")
        if not group.get("momentum", 1):
            raise NotApplicable("needs momentum, and the recipe has none; set recipe.momentum")
        momentum = cycle((self.high, self.low, self.high), self.pct, run.total_steps, self.shape)

        def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            set_momentum(optimizer, momentum(run.progress))

        optimizer.register_step_pre_hook(before)
        return optimizer


def set_momentum(optimizer: Optimizer, value: float) -> None:
    """Set momentum, or Adam's beta1, in every group."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value
