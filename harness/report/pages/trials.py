"""What a search's page says of one arm: its trials, its winner, and the values that were searched."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.analysis.optimism import Optimism, default_trial, optimism
from harness.metrics import OBJECTIVES
from harness.report.drawings.landscape import landscape
from harness.report.drawings.search import (
    Axis,
    Budget,
    TrialPoint,
    Trials,
    budget_plot,
    front_plot,
    history,
    share_bar,
    slice_plot,
)
from harness.report.text.commands import winner_command
from harness.report.text.numbers import NONE, number, plural, shown, sort_key
from harness.store.schema import SearchArm, SearchRecord, Trial

EDGE = 0.05
"""A winner within this share of its range from an end suggests a wider range."""


@dataclass(frozen=True)
class ValueRow:
    """A searched value: where it was searched, its default, what won, near which end of its range, its importance."""

    name: str
    space: str
    default: str
    winner: str
    changed: bool
    edge: str
    share: str
    bar: Markup | str


@dataclass(frozen=True)
class ArmSection:
    """What the page shows of one arm.

    `seen` is the winner's validation accuracy on the tuning seeds, `default` the number of the trial with the default
    values. `counts` has the trials of each state. `told` has, by
    trial and for each objective, its value in words and what it is sorted by.
    """

    arm: SearchArm
    winner: Trial | None
    default: int | None
    counts: Sequence[tuple[str, int]]
    seen: str
    optimism: Optimism | None
    values: Sequence[ValueRow]
    history: Markup | None
    budget: Budget | None
    budget_plot: Markup | None
    slices: Sequence[Markup]
    pair: Sequence[str]
    map: Markup | None
    fronts: Sequence[Markup]
    front: Sequence[Trial]
    told: Mapping[int, Sequence[tuple[str, str]]]
    command: str


def arm_section(record: SearchRecord, arm: SearchArm, index: int, runs: pd.DataFrame) -> ArmSection:
    """Everything that the page says of one arm's trials; `index` is its place among the colours."""
    winner = next((t for t in arm.trials if t.number == arm.winner), None)
    first = default_trial(arm)
    default = first.number if first else None
    points = [TrialPoint(t.number, t.state, t.params, value_of(t, "accuracy"), _trial_title(t)) for t in arm.trials]
    trials = Trials(points, arm.winner, default, index)
    budget = budget_of(arm, index)
    pair = map_pair(arm)
    told = {t.number: [_told_and_key(t, o) for o in record.objectives] for t in arm.trials}
    return ArmSection(
        arm=arm,
        winner=winner,
        default=default,
        counts=[(state, sum(t.state == state for t in arm.trials)) for state in ("complete", "pruned", "failed")],
        seen=_told_value(winner, "accuracy") if winner else NONE,
        optimism=optimism(record, arm, runs),
        values=value_rows(arm, winner),
        history=history(trials) if points else None,
        budget=budget,
        budget_plot=budget_plot([budget]) if budget else None,
        slices=[slice_plot(trials, name, arm.space[name]) for name in by_importance(arm)] if points else [],
        pair=pair,
        map=landscape(trials, {name: arm.space[name] for name in pair}) if pair else None,
        fronts=_fronts(record, arm, trials),
        front=[t for t in arm.trials if t.number in arm.front],
        told=told,
        command=winner_command(record, arm, winner) if winner else "",
    )


def value_of(trial: Trial, objective: str) -> float | None:
    """A trial's value in the objective's unit: the mean over its seeds. None for failed trials."""
    values = trial.values.get(objective, ())
    if trial.state == "failed" or not values:
        return None
    return statistics.fmean(values) * OBJECTIVES[objective].factor


def _told_value(trial: Trial, objective: str) -> str:
    """A trial's value with its spread and n: "91.20 ± 1.10"."""
    o, values = OBJECTIVES[objective], trial.values.get(objective, ())
    if trial.state == "failed" or not values:
        return NONE
    spread = f" ± {number(o.factor * float(np.std(values, ddof=1)), o.digits)}" if len(values) > 1 else ""
    return number(value_of(trial, objective), o.digits) + spread


def _told_and_key(trial: Trial, objective: str) -> tuple[str, str]:
    return _told_value(trial, objective), sort_key(value_of(trial, objective))


def expected_best(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the best of k values, for k = 1 to their number.

    The k values are drawn at random with replacement from `values` (Dodge et al. 2019, arXiv:1909.03004, section
    3.2), so with F_i = (i / n)^k, the i-th smallest is the best with probability F_i - F_(i-1).
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    k = np.arange(1, n + 1)[:, None]
    weights = np.diff((np.arange(n + 1) / n) ** k, axis=1)
    mean = weights @ ordered
    variance = weights @ ordered**2 - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 0.0)).tolist()


def budget_of(arm: SearchArm, index: int) -> Budget | None:
    """The expected best of k of an arm's trials with a band of one standard deviation inside the values seen.

    A pruned or failed trial counts as the worst complete one: it cost its place in the budget and could not win.
    None without a complete trial.
    """
    complete = [v for t in arm.trials if t.state == "complete" and (v := value_of(t, "accuracy")) is not None]
    if not complete:
        return None
    worst, best = min(complete), max(complete)
    mean, sd = expected_best(complete + [worst] * (len(arm.trials) - len(complete)))
    return Budget(
        arm=index,
        name=arm.label,
        mean=mean,
        low=[max(m - s, worst) for m, s in zip(mean, sd, strict=True)],
        high=[min(m + s, best) for m, s in zip(mean, sd, strict=True)],
    )


def _trial_title(trial: Trial) -> str:
    values = ", ".join(f"{name} = {shown(value)}" for name, value in trial.params.items())
    if trial.state == "failed":
        return f"trial {trial.number}, failed: {values}. {trial.reason}"
    seeds = plural(len(trial.values.get("accuracy", ())), "seed")
    return f"trial {trial.number}, {trial.state}: {_told_value(trial, 'accuracy')} %, {seeds}; {values}"


def by_importance(arm: SearchArm) -> list[str]:
    """The searched values, the most important first; in their own order where nothing is known of importance."""
    return sorted(arm.space, key=lambda name: -(arm.importance or {}).get(name, 0.0))


def value_rows(arm: SearchArm, winner: Trial | None) -> list[ValueRow]:
    """Every searched value of an arm."""
    rows = []
    for name in by_importance(arm):
        space = arm.space[name]
        share = (arm.importance or {}).get(name)
        won = winner.params.get(name) if winner else None
        rows.append(
            ValueRow(
                name=name,
                space=_space(space),
                default=shown(space.get("default")),
                winner=NONE if won is None else shown(won),
                changed=won is not None and won != space.get("default"),
                edge=_edge(space, won),
                share=NONE if share is None else f"{100 * share:.0f} %",
                bar="" if share is None else share_bar(share),
            )
        )
    return rows


def _space(space: Mapping[str, Any]) -> str:
    """Where a value was searched, in words."""
    if "choices" in space:
        return ", ".join(map(shown, space["choices"]))
    kind = " integers" if space.get("integer") else ""
    return f"{shown(space['low'])} to {shown(space['high'])}{kind}, {'log' if space.get('log') else 'linear'}"


def _edge(space: Mapping[str, Any], value: Any) -> str:
    """Which end of its range a value is close to, if any."""
    share = None if "choices" in space else Axis.of(space).share(value)
    if share is None:
        return ""
    return "lower end" if share < EDGE else "upper end" if share > 1 - EDGE else ""


def map_pair(arm: SearchArm) -> tuple[str, ...]:
    """The two most important ranges, or the first two where nothing is known of importance; empty below two."""
    ranges = [name for name in by_importance(arm) if "choices" not in arm.space[name]]
    return tuple(ranges[:2]) if len(ranges) > 1 else ()


def _fronts(record: SearchRecord, arm: SearchArm, trials: Trials) -> list[Any]:
    """Accuracy against each further objective."""
    drawn = []
    for objective in record.objectives[1:]:
        o = OBJECTIVES[objective]
        known = {t.number: v for t in arm.trials if (v := value_of(t, objective)) is not None and t.state == "complete"}
        if known:
            drawn.append(front_plot(trials, known, f"{o.name}, {o.unit}", arm.front))
    return drawn
