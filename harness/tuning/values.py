"""One value that a search may change: its range, and how samplers pick it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from harness.values import SCALE_WORDS, SCALES, scale_of

DIGITS = 4
"""Significant digits of a tried value, so that the command that uses it can be read and typed."""

Params = Mapping[str, Any]
"""Values by name: "recipe.lr", "mixup.alpha"."""


@dataclass(frozen=True)
class Value:
    """One value that a search may change, "recipe.lr" or "mixup.alpha", and its `default` in the experiment.

    From `low` to `high`, both included, on a log scale if `log`, on that of 1 - x if `log1m`, whole
    numbers if `integer`; or one of `choices`.
    """

    name: str
    default: Any
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    integer: bool = False
    log1m: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def holds_default(self) -> bool:
        """Whether the default is a value that the search can try; None, say, is not in a range of numbers."""
        if self.choices:
            return self.default in self.choices
        return self.default is not None and self.low <= self.default <= self.high

    @property
    def scale(self) -> str:
        """One of `harness.values.SCALES`."""
        return scale_of(self.log, self.log1m)

    @property
    def picked_as(self) -> str:
        """The name of what the sampler picks, in Optuna's storage: Optuna has log scales, so it picks 1 - x on one."""
        return f"1 - {self.name}" if self.log1m else self.name

    def picked(self, value: Any) -> Any:
        """What the sampler would have picked for a value."""
        return 1 - value if self.log1m else value

    @property
    def levels(self) -> float:
        """How many different values there are; infinite for real numbers."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.integer else math.inf

    def suggest(self, trial: optuna.Trial) -> Any:
        """What the sampler picks, as it is used."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if self.integer:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        low, high = sorted((self.picked(self.low), self.picked(self.high)))
        return self.used(trial.suggest_float(self.picked_as, low, high, log=self.log or self.log1m))

    def used(self, value: Any) -> Any:
        """What is trained for a value that the sampler picked: a real number is rounded, but for the default."""
        real = not self.choices and not self.integer
        if real and value == self.picked(self.default):
            return self.default
        return self._rounded(self.picked(value)) if real else value

    def at(self, share: float) -> Any:
        """The value at a share of the way from the low end (0) to the high end (1)."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        even, back = SCALES[self.scale]
        value = back(even(self.low) + share * (even(self.high) - even(self.low)))
        return min(max(round(value), int(self.low)), int(self.high)) if self.integer else self._rounded(value)

    def _rounded(self, value: float) -> float:
        digits = float(f"{self.picked(value):.{DIGITS}g}")  # of the distance to one where that counts
        return min(max(round(self.picked(digits), 12) if self.log1m else digits, self.low), self.high)

    def record(self) -> dict[str, Any]:
        """As `SearchArm.space` has it."""
        if self.choices:
            return {"choices": list(self.choices), "default": self.default}
        kind = int if self.integer else float
        ends = {"low": kind(self.low), "high": kind(self.high)}
        scale = {"log": self.log} | ({"log1m": True} if self.log1m else {})
        return {**ends, **scale, "integer": self.integer, "default": self.default}

    def __str__(self) -> str:
        """As a line of a plan shows it."""
        if self.choices:
            where = ", ".join(map(str, self.choices))
        else:
            scale = SCALE_WORDS[self.scale] + (", whole numbers" if self.integer else "")
            where = f"{self.low:g} to {self.high:g} ({scale})"
        return f"{self.name}: {where}; default {self.default}"
