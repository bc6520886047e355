"""What a user says of the runs that are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.readers.record import Unit

MARGIN = 0.5
"""Points of a score in percent, where nothing else is said; as in experiments."""


@dataclass(frozen=True)
class Options:
    """Names are those of columns; None where the columns shall say it themselves.

    `method` may name several columns, joined by commas. `row` is which row of a curve counts: last, first, max, min, or
    best:COLUMN. `where` are conditions COLUMN=VALUE that runs must meet. `pairs` is which seeds an arm is judged on:
    all that it shares with the baseline, or those that all arms have in common. `duplicates` says which run of a method
    and seed counts where there are several; None refuses them. `margin` is in points of percent, or of the score
    itself. `alpha` is the level of the tests. `folds` is test / training size where the seeds are the folds of one
    cross-validation.
    """

    method: str | None = None
    seed: str | None = None
    metric: str | None = None
    baseline: str | None = None
    unit: Unit | None = None
    better: Literal["higher", "lower"] | None = None
    margin: float | None = None
    by: str | None = None
    where: tuple[str, ...] = ()
    row: str = "last"
    cost: str | None = None
    pairs: Literal["all", "common"] = "all"
    duplicates: Literal["first", "last"] | None = None
    alpha: float = 0.05
    folds: float | None = None
