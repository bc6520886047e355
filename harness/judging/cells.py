"""A judged run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.readers.record import Run


@dataclass(frozen=True)
class Cell:
    """One run of a method with a seed, its score, and its training time in seconds; NaN where there is none."""

    arm: str
    seed: int
    run: Run
    value: float
    cost: float

    @property
    def reason(self) -> str:
        """Why there is no score; empty where there is one."""
        if self.run.reason or not math.isnan(self.value):
            return self.run.reason
        return "no score in the table"
