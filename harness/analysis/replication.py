"""What fresh seeds say of effects that other seeds showed.

Arms that are replicated were chosen by what their first seeds showed of them, so those effects are too large on average
(the winner's curse); the fresh seeds chose nothing, and their mean is unbiased.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.effects import analyse
from harness.analysis.inference import t_interval
from harness.analysis.rows import Floats
from harness.analysis.types import GAINS, LOSSES, Analysis, Effect
from harness.errors import UserError
from harness.store.schema import Manifest

Outcome = Literal["held", "same sign", "reversed", "no answer"]


@dataclass(frozen=True)
class Part:
    """A mean paired difference over `n` seeds with its t interval at level 1 - alpha; NaN where these are too few."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Replicated:
    """One arm on its old seeds, on fresh ones, and on both together, in points of the metric.

    `ratio` is the fresh mean over the old one, NaN where either is missing or the old one is zero. `p` is that of the
    fresh seeds' deciding test, after Holm's correction over the arms of the replication. The outcome is "held" where
    that is below alpha with a verdict in the old direction, else "same sign" or "reversed", and "no answer" without a
    direction on either side.
    """

    arm: str
    old: Part
    new: Part
    both: Part
    ratio: float
    p: float
    outcome: Outcome


@dataclass(frozen=True)
class Replication:
    """A study's arms on fresh seeds. `study` is the one that is replicated, and `notes` what a reader must know."""

    study: str
    metric: str
    unit: str
    alpha: float
    arms: tuple[Replicated, ...]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """How many arms held, and how many have the same sign, those that held among them."""
        outcomes, many = [arm.outcome for arm in self.arms], len(self.arms)
        held = outcomes.count("held")
        return f"{held} of {many} held, {held + outcomes.count('same sign')} of {many} same sign."


def replication(declared: Manifest, runs: pd.DataFrame, manifest: Manifest, new: Analysis) -> Replication | None:
    """Compare a replication with the study that it replicates; None where that cannot be analysed by the same metric.

    Args:
        declared: the study that is replicated.
        runs: its rows, with the columns of `harness.store.schema.RUNS`.
        manifest: the replication.
        new: its effects.
    """
    try:
        old = analyse(runs, declared, metric=new.metric)
    except UserError:
        return None
    return compared(old, new, manifest.seeds, (declared.fingerprint, manifest.fingerprint))


def compared(old: Analysis, new: Analysis, fresh: Collection[int], machines: tuple[str, str]) -> Replication:
    """Compare the arms of a replication with the same arms of the study that it replicates.

    Args:
        old: effects of the study that is replicated.
        new: those of the replication, on the same metric.
        fresh: the seeds that the replication declared; what the old study has of them, too, counts as fresh only.
        machines: the fingerprints of both.
    """
    before = {effect.arm: effect for effect in old.effects}
    arms = tuple(_arm(before[e.arm], e, fresh, new) for e in new.effects if e.arm in before)
    notes = [
        "These arms were chosen after their old effects were seen, so the old ones are too large on average; the fresh "
        "ones are the unbiased estimate."
    ]
    if machines[0] != machines[1]:
        notes.append(
            f"The old seeds were trained on another machine or by other versions (fingerprint {machines[0]}, and "
            f"{machines[1]} for the fresh ones); both together mixes the two."
        )
    shared = sorted({seed for e in before.values() for seed in e.seeds if seed in fresh})
    if shared:
        seeds = f"seed{'s' * (len(shared) > 1)} {', '.join(map(str, shared))}"
        notes.append(f"{old.study} has {seeds} now, too; they count once, as fresh ones.")
    gone = [e.arm for e in new.effects if e.arm not in before]
    if gone:
        notes.append(f"{old.study} no longer has {', '.join(gone)}.")
    return Replication(old.study, new.metric, new.unit, new.alpha, arms, tuple(notes))


def _arm(old: Effect, new: Effect, fresh: Collection[int], analysis: Analysis) -> Replicated:
    # Rounded as pairs are: equal differences of counts must stay equal.
    kept = [d for seed, d in zip(old.seeds, old.differences, strict=True) if seed not in fresh]
    first, second = np.round(np.array(kept, dtype=float), 10), np.round(np.array(new.differences, dtype=float), 10)
    before, now, both = (_part(d, analysis.alpha) for d in (first, second, np.concatenate([first, second])))
    signs = _direction(old, before.mean, analysis), _direction(new, now.mean, analysis)
    outcome: Outcome = "no answer"
    if all(signs):
        outcome = "same sign" if signs[0] == signs[1] else "reversed"
    decided = (new.verdict.kind in GAINS or new.verdict.kind in LOSSES) and new.p_holm < analysis.alpha
    return Replicated(
        arm=new.arm,
        old=before,
        new=now,
        both=both,
        ratio=now.mean / before.mean if before.mean else math.nan,
        p=new.p_holm,
        outcome="held" if decided and outcome == "same sign" else outcome,
    )


def _part(d: Floats, alpha: float) -> Part:
    if d.size < 2:
        return Part(float(d[0]) if d.size else math.nan, math.nan, math.nan, d.size)
    mean, low, high = (float(v) for v in t_interval(d, alpha))
    return Part(mean, low, high, d.size)


def _direction(effect: Effect, mean: float, analysis: Analysis) -> int:
    """1 for better, -1 for worse, 0 where nothing tells: by the verdict where it claims one, else by the mean."""
    if effect.verdict.kind in GAINS or effect.verdict.kind in LOSSES:
        return 1 if effect.verdict.kind in GAINS else -1
    return 0 if not mean or math.isnan(mean) else 1 if (mean > 0) == analysis.higher_is_better else -1
