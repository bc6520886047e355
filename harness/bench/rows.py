"""Rows of a benchmark, and how times are taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
"""CPU seconds, one for each repeat (R,)."""

Measure = Callable[[], float]
"""Does a fixed amount of work and returns the CPU seconds that it took."""


@dataclass(frozen=True)
class BenchRow:
    """One measured number: the median of `n` repeats with their quartiles `low` and `high`.

    `target` is "" or a bound such as ">= 0.97", in the same unit.
    """

    name: str
    value: float
    unit: str
    low: float
    high: float
    n: int
    measured: str
    target: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; None without a target."""
        if not self.target:
            return None
        sign, bound = self.target.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)


def summary(name: str, values: Sequence[float] | Seconds, unit: str, measured: str, target: str = "") -> BenchRow:
    """The row of some repeats."""
    low, middle, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
    return BenchRow(name, middle, unit, low, high, len(values), measured, target)


def cpu(f: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of that many calls."""
    started = time.process_time()
    for _ in range(times):
        f()
    return time.process_time() - started


def interleave(repeats: int, work: Mapping[str, Measure]) -> dict[str, Seconds]:
    """CPU seconds (repeats,) of each work, all of them once per repeat, after one unmeasured round."""
    for f in work.values():
        f()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for i in range(repeats):
        for name in list(work) if i % 2 else reversed(list(work)):
            seconds[name].append(work[name]())
    return {name: np.array(values) for name, values in seconds.items()}
