"""Linear decay: the learning rate falls in a straight line over the whole training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Info, Run, Schedule, Search, Trick
from harness.tricks.functional import polynomial


class LinearDecay(Trick):
    """Li, Yumer & Ramanan 2020, 1905.04753, section 4.

    final: the last rate, as a factor on the peak.
    """

    info: ClassVar = Info(
        name="linear_decay",
        family="optimization",
        summary="learning rate falls in a straight line",
        paper="Li, Yumer, Ramanan 2020, arXiv:1905.04753; Defazio et al. 2023, arXiv:2310.07831",
        formula="lr(t) = lr (final + (1 - final) (1 - t / T)) at update t of T",
        expect=(
            "Both papers find it as good as or better than cosine and steps at any length of training, and best when "
            "the budget is short. Little to gain over a tuned cosine."
        ),
        differs="t counts updates, so a longer run stretches the line; no warm-up, which `lr_warmup` adds",
    )
    final: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.1)] = 0.0

    def schedule(self, run: Run) -> Schedule:
        """A straight line over the whole training."""
        return polynomial(1.0, self.final)
