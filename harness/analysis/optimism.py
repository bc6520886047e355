"""What a search's winner loses on fresh seeds, and how much of it selection is to blame for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.compare import welch
from harness.analysis.inference import t_interval
from harness.analysis.rows import Floats, arm_values
from harness.metrics import COLUMNS
from harness.store.schema import SearchArm, SearchRecord, Trial


@dataclass(frozen=True)
class Change:
    """A validation accuracy on tuning seeds minus on fresh seeds, in points.

    `low` and `high` bound it at level 1 - alpha by Welch's t for two independent samples of seeds; NaN where one has
    a single seed.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Optimism:
    """A winner's validation accuracy in percent on the `seen_n` seeds that chose it, and on `fresh_n` fresh ones.

    `low` and `high` bound the latter at level 1 - alpha. `winner` is the change between the two, and `default` that of
    the trial with the default values, which nothing selected: it is the luck of the seeds. `net` is what selection did:
    the change of the difference between winner and default, seed by seed. It is exactly 0 where the default values won.
    What is not known is None: all three without fresh runs, and the last two where no trial of the default values was
    completed.

    Intervals are over seeds, and not over searches: another search may choose a winner that owes less or more to luck.
    """

    seen: float
    seen_n: int
    fresh: float
    low: float
    high: float
    fresh_n: int
    alpha: float
    default_won: bool
    winner: Change | None
    default: Change | None
    net: Change | None


def default_trial(arm: SearchArm) -> Trial | None:
    """The trial with the default values of all that was searched; None if there was none."""
    defaults = {name: space.get("default") for name, space in arm.space.items()}
    return next((t for t in arm.trials if t.params == defaults), None)


def optimism(record: SearchRecord, arm: SearchArm, runs: pd.DataFrame) -> Optimism | None:
    """How much the winner of an arm flatters itself; None where there is no winner, or no value of it.

    Args:
        record: the search.
        arm: one of its arms.
        runs: rows with the columns of `harness.store.schema.RUNS`, those of the comparisons on fresh seeds among them.
    """
    winner = next((t for t in arm.trials if t.number == arm.winner), None)
    if winner is None:
        return None
    default = default_trial(arm)
    default = default if default and default.state == "complete" else None
    tuned = record.comparisons.get("tuned")
    alpha = tuned.alpha if tuned else 0.05

    def fresh(comparison: str) -> dict[int, float]:
        manifest = record.comparisons.get(comparison)
        found = arm_values(runs, manifest, arm.label, COLUMNS["val_accuracy"]) if manifest else pd.Series(dtype=float)
        return dict(zip(found.index.tolist(), found.tolist(), strict=True))

    then, now = _seen(winner), fresh("tuned")
    if not then:
        return None
    mean, low, high = (float(v) for v in t_interval(_values(now), alpha)) if now else (math.nan,) * 3
    old_then, old_now = (_seen(default), fresh("default")) if default else ({}, {})
    return Optimism(
        seen=float(_values(then).mean()),
        seen_n=len(then),
        fresh=mean,
        low=low,
        high=high,
        fresh_n=len(now),
        alpha=alpha,
        default_won=winner is default,
        winner=_change(_values(then), _values(now), alpha),
        default=_change(_values(old_then), _values(old_now), alpha),
        net=_change(_gain(then, old_then), _gain(now, old_now), alpha),
    )


def _seen(trial: Trial) -> dict[int, float]:
    """A trial's validation accuracies by seed, in percent."""
    values = trial.values.get("accuracy", ())
    return {s: 100 * v for s, v in zip(trial.run_ids, values, strict=False)}  # a foreign record may lack some


def _values(by_seed: Mapping[int, float]) -> Floats:
    return np.array(list(by_seed.values()), dtype=float)


def _gain(values: Mapping[int, float], reference: Mapping[int, float]) -> Floats:
    """`values` minus `reference` at each seed of both."""
    return np.round([values[s] - reference[s] for s in values if s in reference], 10)


def _change(tuning: Floats, fresh: Floats, alpha: float) -> Change | None:
    if not (tuning.size and fresh.size):
        return None
    if min(tuning.size, fresh.size) < 2:
        return Change(float(tuning.mean() - fresh.mean()), math.nan, math.nan)
    return Change(*welch(fresh, tuning, alpha)[:3])
