"""Learning-rate warm-up: the first epochs ramp the rate up to where the schedule is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.tricks.contract import Choice, Info, NoOp, Run, Schedule, Search, Trick
from harness.tricks.functional import share_of_training, warmup


def ramp(shape: str, start: float) -> Callable[[float], float]:
    """From `start` to one as the argument goes from zero to one; "constant" stays at `start`."""
    if shape == "linear":
        return lambda done: start + (1 - start) * done
    return lambda done: start ** (1 - done if shape == "exp" else 1.0)


class LrWarmup(Trick):
    """Goyal et al. 2017, 1706.02677, section 2.2.

    epochs: length, which may be a fraction. start_factor: the ramp's origin as a factor on the rate that it
    leads to. prefix: False lets the warm-up cover the beginning of the schedule, which is as it was
    afterwards; True starts the schedule after the warm-up and fits it into the rest of the training.
    """

    info: ClassVar = Info(
        name="lr_warmup",
        family="core",
        summary="ramp the learning rate up over the first epochs",
        paper="Goyal et al. 2017, arXiv:1706.02677",
        formula=("factor(t) = s + (1 - s) (t + 1) / W for updates t < W (exp: s^(1 - (t + 1) / W); constant: s)"),
        expect=(
            "Helps large rates, large batches, adaptive optimizers and nets without normalisation, where "
            "the first updates would diverge. A small net at a moderate rate loses W epochs of learning."
        ),
        differs=(
            "Starts near zero rather than at a reference rate; the constant shape is the rival of section 2.2. Its "
            "length is in epochs, as in the paper, where other schedules here count fractions of training: the default "
            "of 5 covers a twentieth of the paper's 90 epochs but a third of a run of 16."
        ),
        excludes={"warmup_cosine": "it has a warm-up of its own"},
    )
    epochs: Annotated[float, Field(ge=0), Search(0.5, 10.0), NoOp(0)] = 5.0
    start_factor: Annotated[float, Field(gt=0, lt=1), Search(0.001, 0.3, log=True)] = 0.01
    shape: Annotated[Literal["linear", "exp", "constant"], Choice(("linear", "exp", "constant"))] = "linear"
    prefix: Annotated[bool, Choice((False, True))] = False

    def wrap_schedule(self, schedule: Schedule, run: Run) -> Schedule:
        """The schedule behind a ramp."""
        share = share_of_training(self.epochs, run)
        return warmup(schedule, share, 1 / run.total_steps, ramp(self.shape, self.start_factor), self.prefix)
