"""Marks in the annotation of a hyperparameter: where a search may look, what does nothing, what is a rate."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.values import scale_of


class Search(NamedTuple):
    """The range that a hyperparameter search may try, which is not the domain in which values are valid.

    Values are spread evenly on the scale on which the value acts: its own, its logarithm's (`log`), or that of the
    logarithm of its distance to one (`log1m`), for what remembers 1 / (1 - x) steps.
    """

    low: float
    high: float
    log: bool = False
    log1m: bool = False

    @property
    def scale(self) -> str:
        """One of `harness.values.SCALES`."""
        return scale_of(self.log, self.log1m)


class Choice(tuple[Any, ...]):
    """The values that a search may try for a categorical hyperparameter: `Choice(("a", "b"))`."""


class NoOp(NamedTuple):
    """The value of a hyperparameter at which the trick's formula vanishes, whatever the others are.

    Such an arm would be the baseline, so it is refused (`Trick.check_acts`). A value that only makes the trick its own
    control, as a weight of zero beside added dropout does, is none.
    """

    value: float


class Rate:
    """Marks a hyperparameter by which the network's learning rate grows in proportion, `RATE` in its annotation.

    A rate relative to the recipe's, or one of something else than the network's weights, is none.
    """


RATE = Rate()


def times(rate: float, factor: float) -> float:
    """A learning rate times a factor, to four significant digits: a command that asks for it can be typed."""
    return float(f"{rate * factor:.4g}")
