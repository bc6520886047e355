"""A study's own rows, one for each run, and the values of its arms block by block: where every analysis begins."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.scores import SCORES
from harness.errors import UserError, did_you_mean
from harness.metrics import COLUMNS, Metric
from harness.store.reader import counting
from harness.store.schema import ArmPlan, Manifest, SearchRecord, StagePlan

Floats = NDArray[np.float64]


def metric_of(manifest: Manifest, name: str | None = None) -> Metric:
    """The record of a metric: a column of the runs table, or one that the study declares and its runs have as a score.

    Args:
        manifest: the study as declared.
        name: of the metric; by default the one that the study is about.

    Raises:
        UserError: there is no such metric.
    """
    name = name or manifest.metric
    known = {**{label: spec.metric(label) for label, spec in manifest.metrics.items()}, **COLUMNS}
    if name not in known:
        names = [*known, *SCORES]
        raise UserError(f"metric '{name}' cannot be analysed{did_you_mean(name, names)} Known: {', '.join(names)}")
    return known[name]


def margin_of(manifest: Manifest, metric: Metric) -> float:
    """The margin of a metric, in its points; NaN where none was declared."""
    if metric.margin is not None:
        return metric.margin
    # A study's margin is for what the study is about, and in points, so it serves all stored accuracies.
    meant = metric.name == manifest.metric if metric.needs == "scores" else metric.points == "points"
    return manifest.margin if meant else math.nan


def values_in(rows: pd.DataFrame, metric: Metric) -> Floats:
    """The values of a metric in these rows, in its unit; NaN where nothing was stored."""
    if metric.needs == "scores":
        return metric.factor * np.array([_score(text, metric.name) for text in rows["scores"]], dtype=float)
    return metric.factor * rows[metric.name].to_numpy(dtype=float, na_value=math.nan)


def _score(text: Any, name: str) -> float:
    """One of a run's scores; NaN where it has none, or where these are no JSON that this program wrote."""
    try:
        return float(json.loads(text)[name])
    except (KeyError, TypeError, ValueError):
        return math.nan


def split_rows(runs: pd.DataFrame, declared: Manifest | SearchRecord) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a study's arms or of a search, as of `own_rows`, and those that other machines made of these runs.

    Args:
        runs: rows with the columns of `harness.store.schema.RUNS`; those of other runs, images and code are in neither.
        declared: what was asked for.
    """
    return _split(runs, declared.arm_runs if isinstance(declared, Manifest) else declared.runs, declared.fingerprint)


def _split(runs: pd.DataFrame, wanted: Mapping[str, str], fingerprint: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the wanted runs, which are given by id with their identities, here and of other machines."""
    rows = runs[runs["identity"].astype(object).fillna("") == runs["run_id"].map(wanted)]
    here = rows["fingerprint"] == fingerprint
    return counting(rows[here]), rows[~here]


def own_rows(runs: pd.DataFrame, declared: Manifest | SearchRecord) -> pd.DataFrame:
    """The rows of a study's arms or of a search: one for each run, as in `counting`, with `ok`.

    Those of a study also have the `label` of the run's arm.
    """
    own, _ = split_rows(runs, declared)
    if isinstance(declared, SearchRecord):
        return own
    return own.assign(label=own["run_id"].map({i: arm.label for arm in declared.arms for i in arm.run_ids.values()}))


def probe_rows(runs: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """The rows of a study's probes (`Manifest.probes`), one for each run, as in `own_rows` but without label."""
    wanted = {run_id: probe.identity for probe in manifest.probes for run_id in probe.run_ids.values()}
    return _split(runs, wanted, manifest.fingerprint)[0]


def stage_rows(runs: pd.DataFrame, stage: StagePlan) -> pd.DataFrame:
    """The rows of some of a study's stages, one for each run, as in `own_rows` but without label."""
    return _split(runs, stage.runs, stage.fingerprint)[0]


def points_of(curves: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The curve points of these runs, each once, with the columns of `runs`.

    Args:
        curves: rows with the columns of `harness.store.schema.CURVES`; those of other runs are left out.
        runs: a row for each run: run_id, fingerprint, and what is wanted beside the points.
    """
    own = curves.merge(runs, on=["run_id", "fingerprint"])
    return own.drop_duplicates(["run_id", "fingerprint", "split", "metric", "epoch"], keep="last")


def arm_values(runs: pd.DataFrame, manifest: Manifest, label: str, metric: Metric) -> pd.Series[float]:
    """A metric of an arm's finished runs in a study, by seed and in its unit; empty where there is no such arm."""
    plan = next((arm for arm in manifest.arms if arm.label == label), ArmPlan(label=label))
    return Side.of(plan, Table(own_rows(runs, manifest)), metric).values


class Table:
    """Rows, one for each run, column by column: picking from a frame takes a hundred times longer."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.at = {str(run_id): i for i, run_id in enumerate(frame["run_id"])}
        self._values: dict[Metric, Floats] = {}
        self._columns: dict[tuple[str, bool], NDArray[Any]] = {}

    def values(self, metric: Metric, rows: Sequence[int]) -> Floats:
        """A metric of some rows, in its unit; NaN where nothing was stored."""
        if metric not in self._values:
            self._values[metric] = values_in(self.frame, metric)
        return self._values[metric][rows]

    def numbers(self, name: str, rows: Sequence[int]) -> Floats:
        """Some rows of a column; NaN where nothing was stored."""
        if (name, True) not in self._columns:
            self._columns[name, True] = self.frame[name].to_numpy(dtype=float, na_value=math.nan)
        return self._columns[name, True][rows]

    def texts(self, name: str, rows: Sequence[int]) -> NDArray[np.object_]:
        """Some rows of a column of strings; empty where nothing was stored."""
        if (name, False) not in self._columns:
            self._columns[name, False] = self.frame[name].fillna("").to_numpy(dtype=object)
        return self._columns[name, False][rows]


@dataclass(frozen=True)
class Side:
    """One arm's rows by seed, and the metric of those that finished."""

    table: Table
    rows: Mapping[int, int]
    status: NDArray[np.object_]
    finished: Mapping[int, float]
    diverged: frozenset[int]

    @staticmethod
    def of(arm: ArmPlan, table: Table, metric: Metric) -> Side:
        """The side of an arm whose runs are among a study's rows."""
        rows = {seed: table.at[run_id] for seed, run_id in arm.run_ids.items() if run_id in table.at}
        seeds, where = np.array(list(rows), dtype=int), list(rows.values())
        status, values = table.texts("status", where), table.values(metric, where)
        ok = status == "ok"
        diverged = (status == "diverged") | (ok & np.isinf(values))
        counted = ok & np.isfinite(values)
        finished = dict(zip(seeds[counted].tolist(), values[counted].tolist(), strict=True))
        return Side(table, rows, status, finished, frozenset(seeds[diverged].tolist()))

    @property
    def values(self) -> pd.Series[float]:
        """The metric of the runs that finished, by seed."""
        return pd.Series(self.finished, index=pd.Index(list(self.finished), dtype=int), dtype=float)

    def why_missing(self, seed: int) -> str | None:
        """Why there is no value for `seed`, or None if there is one."""
        if seed in self.finished:
            return None
        if seed not in self.rows:
            return "not run"
        (status,) = self.table.texts("status", [self.rows[seed]])
        return "not measured" if status == "ok" else str(status)


class Pairs:
    """The pairs of one arm with the baseline: those that finished, those that diverged, and why others are missing."""

    def __init__(self, plan: ArmPlan, base: Side, arm: Side, planned: Sequence[int]) -> None:
        self.plan, self.base, self.arm, self.planned = plan, base, arm, planned
        self.seeds: list[int] = []
        self.lost: list[tuple[bool, bool]] = []
        """For each seed of which a run diverged and none is missing: whether the baseline did, and the arm."""
        self.missing: Counter[str] = Counter()
        for seed in dict.fromkeys(planned):  # a seed is one block, however often a file names it
            diverged = seed in base.diverged, seed in arm.diverged
            in_arm = None if diverged[1] else arm.why_missing(seed)
            in_base = None if diverged[0] else base.why_missing(seed)
            if in_arm or in_base:
                self.missing[in_arm or f"baseline {in_base}"] += 1
            elif any(diverged):
                self.lost.append(diverged)
            else:
                self.seeds.append(seed)
        self.x: Floats = np.array([base.finished[s] for s in self.seeds], dtype=float)
        self.y: Floats = np.array([arm.finished[s] for s in self.seeds], dtype=float)
        # Accuracies are counts: equal differences must stay equal when they are ranked or compared with 0.
        self.d: Floats = np.round(self.y - self.x, 10)

    def outcomes(self, higher_is_better: bool) -> Floats:
        """The differences of all judged pairs: a run that diverged is infinitely worse than one that finished."""
        worst = -math.inf if higher_is_better else math.inf
        lost = [0.0 if base == arm else worst if arm else -worst for base, arm in self.lost]
        return np.concatenate([self.d, np.array(lost, dtype=float)])

    @cached_property
    def _rows(self) -> tuple[list[int], list[int]]:
        return [self.base.rows[s] for s in self.seeds], [self.arm.rows[s] for s in self.seeds]

    def numbers(self, name: str) -> tuple[Floats, Floats]:
        """One column of the runs table, pair by pair: baseline and arm."""
        base, arm = self._rows
        return self.base.table.numbers(name, base), self.arm.table.numbers(name, arm)

    def texts(self, name: str) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """The same for a column of strings."""
        base, arm = self._rows
        return self.base.table.texts(name, base), self.arm.table.texts(name, arm)
