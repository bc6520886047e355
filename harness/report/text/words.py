"""Effects, and what cards and comparisons say, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis.types import Analysis, Effect
from harness.report.text.numbers import decimals, interval, signed, typed
from harness.values import SCALE_WORDS


def told(effect: Effect, analysis: Analysis) -> str:
    """An effect with its interval, unit and n; or why there is none."""
    e, d = effect, decimals(analysis)
    if not e.n:
        return "; ".join(e.reasons) or e.verdict.label
    ends = f" {interval(e.low, e.high, d)}" if math.isfinite(e.low) else ""
    return f"{signed(e.mean, d)}{ends} {analysis.unit}".rstrip() + f", n = {counted(e)}"


def counted(effect: Effect) -> str:
    """The pairs that an effect comes from, and where runs diverged, of how many."""
    return str(effect.n) if effect.n == effect.n_judged else f"{effect.n} of {effect.n_judged}"


def why_empty(effect: Effect) -> str:
    """Why an effect has no pair of runs."""
    if effect.verdict.kind == "skipped":
        return effect.verdict.sentence.removesuffix(".")
    return "; ".join(effect.reasons) or "no finished pair of runs"


def searched(space: Sequence[Any] | None) -> str:
    """A card's search range: low, high and scale, or choices."""
    if space is None:
        return "not searched"
    if isinstance(space[0], int | float) and space[-1] in SCALE_WORDS:  # "linear" may be a choice, too
        low, high, scale = space
        return f"{typed(low)} to {typed(high)}, {SCALE_WORDS[scale]}"
    return typed(space)


def by_reason(excludes: Mapping[str, str]) -> dict[str, list[str]]:
    """The tricks that share a reason for not being combined, by reason."""
    reasons: dict[str, list[str]] = {}
    for other, why in excludes.items():
        reasons.setdefault(why, []).append(other)
    return reasons
