"""What the runs that arms need took, and how much of an arm's cost that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.inference import t_interval
from harness.analysis.rows import Floats, own_rows, stage_rows
from harness.metrics import BESIDE, TRAINING_TIME, WALL, usable
from harness.store.schema import Manifest


@dataclass(frozen=True)
class Mean:
    """A mean over `n` runs with its 95 % t interval, whose ends are NaN below two runs."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class StageCost:
    """Runs that were trained before, alike but for their seeds: what one took, without what it needed itself.

    `seconds` are of the runs that ended ok, of the `n_planned` that the study declares.
    """

    label: str
    arms: tuple[str, ...]
    seconds: Mean
    n_planned: int


@dataclass(frozen=True)
class TrainedBefore:
    """The stages of a study, and for each arm with any their share of all that a run of it cost, in [0, 1].

    `cpu` says whether seconds are CPU time of the process, or wall time.
    """

    stages: tuple[StageCost, ...]
    shares: tuple[tuple[str, Mean], ...]
    cpu: bool


def trained_before(runs: pd.DataFrame, manifest: Manifest) -> TrainedBefore | None:
    """What was trained before the arms of a study; None where nothing was.

    Args:
        runs: rows with the columns of `harness.store.schema.RUNS`, those of stages among them.
        manifest: the study as declared.
    """
    if not manifest.stages:
        return None
    own = own_rows(runs, manifest)
    stages = [rows[rows["ok"]] for rows in (stage_rows(runs, stage) for stage in manifest.stages)]
    clock = usable(TRAINING_TIME, pd.concat([own, *stages])["device"].dropna().unique()).name
    setup, other = BESIDE[clock]
    costs = tuple(
        StageCost(stage.label, stage.arms, _mean(_seconds(rows, clock) + _seconds(rows, setup)), len(stage.runs))
        for stage, rows in zip(manifest.stages, stages, strict=True)
    )
    shares = []
    for arm in manifest.arms:
        rows = own[own["ok"] & (own["label"] == arm.label)]
        before = _seconds(rows, other)
        if (before > 0).any():
            shares.append((arm.label, _mean(before / (before + _seconds(rows, clock) + _seconds(rows, setup)))))
    return TrainedBefore(costs, tuple(shares), clock != WALL)


def _seconds(rows: pd.DataFrame, column: str) -> Floats:
    values: Floats = np.nan_to_num(rows[column].to_numpy(dtype=float, na_value=math.nan))
    return values


def _mean(values: Floats) -> Mean:
    if not len(values):
        return Mean(math.nan, math.nan, math.nan, 0)
    mean, low, high = map(float, t_interval(values))
    return Mean(mean, low, high, len(values))
