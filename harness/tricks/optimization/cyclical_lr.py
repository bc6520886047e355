"""Cyclical learning rates: straight up to the peak and straight down again, several times."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.tricks.contract import Choice, Info, Run, Schedule, Search, Trick

Mode = Literal["triangular", "triangular2", "exp_range"]


def cyclical(cycles: int, base: float, height: Callable[[float, int], float]) -> Schedule:
    """Triangles from `base` up and down, in equal cycles over training.

    `height` maps progress and the number of the cycle, from zero, to a factor on the triangle's height 1 - base.
    """

    def factor(progress: float) -> float:
        done = round(progress * cycles, 9)  # so that no cycle is missed by 1e-17
        number = math.floor(done)
        up = 1 - abs(2 * (done - number) - 1)
        return base + (1 - base) * up * height(progress, number)

    return factor


class CyclicalLr(Trick):
    """Smith 2015, 1506.01186, section 3.

    base: lowest rate as a fraction of the peak, which is the recipe's rate. cycles: how many fit into the run.
    """

    info: ClassVar = Info(
        name="cyclical_lr",
        family="optimization",
        summary="raise and lower the learning rate in straight lines, several times",
        paper="Smith 2015, arXiv:1506.01186",
        formula=(
            "factor = base + (1 - base) tri(t) h, tri from 0 to 1 and back in every cycle; h = 1 (triangular), "
            "2^-(cycle) (triangular2), end^(t / T) (exp_range)"
        ),
        expect=(
            "The paper reaches the accuracy of step decay in fewer updates, with little tuning of the rate. Against a "
            "tuned cosine expect no gain. Every cycle ends at `base`, so the last weights are as good as any, but "
            "noisier than after a decay to zero, the more so as `base` is high."
        ),
        differs=(
            "Cycles are a whole number of equal parts of training, so a longer run stretches them and training ends "
            "low, at base times the peak; the paper's are 4 to 20 epochs long and it finds the bounds by a range "
            "test. Momentum stays."
        ),
        measured=(
            "−11.9 points [−20.0, −3.7] on digits, −8.4 [−12.1, −4.7] on noisy digits (n = 10): the peaks of four "
            "short cycles undo what was learnt, and training ends at a tenth of the peak. One cycle that ends at 0 is "
            "+0.7 [−1.2, 2.6] (n = 5; harness ablate cyclical_lr --set cyclical_lr.cycles=1 --set "
            "cyclical_lr.base=0.0 --experiment digits --seeds 5)."
        ),
    )
    cycles: Annotated[int, Field(ge=1), Search(1, 8)] = 4
    base: Annotated[float, Field(ge=0, lt=1), Search(0.01, 0.3, log=True)] = 0.1
    mode: Annotated[Mode, Choice(("triangular", "triangular2", "exp_range"))] = "triangular"
    end: Annotated[
        float, Field(gt=0, le=1, description="of the mode 'exp_range' only"), Search(0.01, 0.5, log=True)
    ] = 0.1

    def schedule(self, run: Run) -> Schedule:
        """Triangles over the whole training."""
        heights: dict[Mode, Callable[[float, int], float]] = {
            "triangular": lambda progress, number: 1.0,
            "triangular2": lambda progress, number: 0.5**number,
            "exp_range": lambda progress, number: self.end**progress,
        }
        return cyclical(self.cycles, self.base, heights[self.mode])
