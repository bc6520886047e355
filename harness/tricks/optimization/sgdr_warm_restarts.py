"""SGDR: cosine decay that starts again from the peak, in periods that may grow."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from harness.tricks.contract import Added, Choice, Info, Run, Schedule, Search, Trick
from harness.tricks.functional import cosine

T0 = 1 / 7


def warm_restarts(first: float, growth: int, final: float = 0.0) -> Schedule:
    """Cosines from one to `final`; the first takes `first` of training, each next `growth` times the last."""

    def factor(progress: float) -> float:
        start, period = 0.0, first
        while progress >= start + period - 1e-9:  # sums of periods are not exact; an update is far longer
            start, period = start + period, period * growth
        return cosine(final)(max(0.0, (progress - start) / period))

    return factor


class SgdrWarmRestarts(Trick):
    """Loshchilov & Hutter 2016, 1608.03983, section 3.

    t0: first period as a fraction of training. End the run at the end of a cycle, or its last rate is high:
    the periods t0, t0 t_mult, ... should add up to one (1/7, 2/7 and 4/7 by default). cycles: how many periods
    add up to the training, in place of t0; what a search tries, since hardly any other t0 ends at a low rate.
    """

    info: ClassVar = Info(
        name="sgdr_warm_restarts",
        family="optimization",
        summary="cosine decay with restarts from the peak rate",
        paper="Loshchilov, Hutter 2016, arXiv:1608.03983",
        formula=(
            "lr(t) = lr_min + (lr - lr_min) (1 + cos(pi t_i / T_i)) / 2, t_i since the restart, T_(i+1) = T_mult T_i"
        ),
        expect=(
            "Good results at the end of every cycle, hence early answers and snapshots to average. The "
            "last weights are seldom better than with one cosine, and worse when training ends inside a "
            "cycle."
        ),
        differs="periods are fractions of training rather than epochs, so a longer run stretches them",
        measured=(
            "On noisy digits −2.1 points [−2.8, −1.5], on clean ones +0.6 [−0.1, 1.3] (n = 10): 95 % of the noisy "
            "labels are fitted, the baseline's 92 %."
        ),
    )
    t0: Annotated[float, Field(gt=0, le=1)] = T0
    t_mult: Annotated[int, Field(ge=1), Choice((1, 2))] = 2
    cycles: Annotated[int | None, Field(ge=1), Search(2, 5), Added(None)] = None
    final: Annotated[float, Field(ge=0, le=1), Search(0.0, 0.1)] = 0.0

    @model_validator(mode="after")
    def _one_length(self) -> SgdrWarmRestarts:
        if self.cycles is not None and self.t0 != T0:
            raise ValueError("t0 and cycles both set the length of the first period; leave one of them out")
        return self

    def schedule(self, run: Run) -> Schedule:
        """Cosines with restarts over the whole training."""
        first = self.t0 if self.cycles is None else 1 / sum(self.t_mult**i for i in range(self.cycles))
        return warm_restarts(first, self.t_mult, self.final)
