"""What the terminal says of a trial and of a search at its end, each number with n and its interval; prints nothing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from harness.analysis.effects import analyse
from harness.analysis.optimism import optimism
from harness.analysis.types import Analysis, Effect
from harness.experiment import BASELINE
from harness.metrics import OBJECTIVES
from harness.store.reader import read_kind
from harness.store.schema import RUNS, TUNED_BASELINE, SearchArm, SearchRecord
from harness.tuning.objective import REASON
from harness.tuning.plan import SearchedArm
from harness.tuning.record import params_of


def trial_line(arm: SearchedArm, trial: FrozenTrial) -> str:
    """A trial that has just ended: "mixup, trial 3: val 91.20 %, mixup.alpha = 0.31"."""
    values = ", ".join(f"{name} = {value}" for name, value in params_of(arm, trial).items())
    ended = trial.user_attrs.get(REASON, "failed")
    if trial.state == TrialState.COMPLETE:
        ended = f"val {100 * trial.values[0]:.2f} %"
        for name, o in OBJECTIVES.items():
            if name != "accuracy" and name in trial.user_attrs:
                ended += f", {o.factor * statistics.fmean(trial.user_attrs[name]):.3g} {o.unit}"
    elif trial.state == TrialState.PRUNED:
        ended = f"pruned, {ended}"
    else:
        ended = f"failed, {ended}"
    return f"{arm.label}, trial {trial.number}: {ended}" + (f"; {values}" if values else "")


def fresh_runs(folder: Path, record: SearchRecord) -> pd.DataFrame:
    """The rows of the comparisons on fresh seeds."""
    compared = {i: identity for m in record.comparisons.values() for i, identity in m.runs.items()}
    table, _, _ = read_kind(folder, "runs", compared)
    rows: pd.DataFrame = (RUNS.empty_table() if table is None else table).to_pandas()
    return rows


def analyses(record: SearchRecord, runs: pd.DataFrame) -> dict[str, Analysis]:
    """The effects of each comparison."""
    return {name: analyse(runs, manifest) for name, manifest in record.comparisons.items()}


def lines(record: SearchRecord, arm: SearchArm, found: Mapping[str, Analysis], runs: pd.DataFrame) -> list[str]:
    """An arm in a few lines: what won, what validation said then and on fresh seeds, and the effects on test."""
    best = next((t for t in arm.trials if t.number == arm.winner), None)
    if best is None:
        reasons = dict.fromkeys(t.reason for t in arm.trials if t.reason)
        return [f"{arm.label}: no trial was completed ({'; '.join(list(reasons)[:3]) or 'none was begun'})"]
    values = ", ".join(f"{name} = {value}" for name, value in best.params.items()) or "nothing to search"
    out = [
        f"{arm.label}: trial {best.number} of {_counts(arm)}: {values}",
        f"  validation: {_validation(record, arm, runs)}",
    ]
    told = (
        [("tuning alone", "tuning", TUNED_BASELINE)]
        if arm.label == BASELINE
        else [("default values", "default", arm.label), ("tuned, against the tuned baseline", "tuned", arm.label)]
    )
    for what, comparison, label in told:
        effect = next((e for e in found[comparison].effects if e.arm == label), None) if comparison in found else None
        if effect is not None:
            out.append(f"  {what}: {_effect(effect, found[comparison])}")
    return out


def _counts(arm: SearchArm) -> str:
    counts = {s: sum(t.state == s for t in arm.trials) for s in ("complete", "pruned", "failed")}
    return f"{len(arm.trials)} ({', '.join(f'{n} {state}' for state, n in counts.items() if n)})"


def _validation(record: SearchRecord, arm: SearchArm, runs: pd.DataFrame) -> str:
    """The winner's accuracy when it was chosen and on fresh seeds, and how much of the difference is selection."""
    o = optimism(record, arm, runs)
    if o is None:
        return "not known"
    said = f"{o.seen:.2f} % when chosen (n = {o.seen_n} seeds)"
    if o.winner is None:
        return said
    said += f", {o.fresh:.2f} %{_interval(o.low, o.high)} on n = {o.fresh_n} fresh seeds; optimism"
    raw, level = f"{o.winner.mean:+.2f} points{_interval(o.winner.low, o.winner.high)}", f"{100 * (1 - o.alpha):g} %"
    if o.net is None or o.default is None:
        why = "how much of it is the luck of the seeds is not known"
        return f"{said} {raw}, and {why}, since no trial of the default values was completed ({level} intervals)"
    if o.default_won:
        return f"{said} {raw}, all of it the luck of the seeds: the default values won ({level} intervals)"
    net = f"net {o.net.mean:+.2f} points{_interval(o.net.low, o.net.high)}"
    return f"{said} {raw}, of which the default values show {o.default.mean:+.2f}: {net} ({level} intervals)"


def _effect(effect: Effect, analysis: Analysis) -> str:
    if not effect.n:
        return f"no pair of runs finished ({'; '.join(effect.reasons) or 'none was trained'})"
    said = f"{effect.mean:+.2f} {analysis.unit}{_interval(effect.low, effect.high)}, n = {effect.n} fresh seeds"
    if effect.n < 2:
        return said
    several = sum(e.n > 1 for e in analysis.effects)
    holm = f", {effect.p_holm:.2g} after Holm's correction for {several} arms" if several > 1 else ""
    return f"{said}, p = {effect.p:.2g}{holm}"


def _interval(low: float, high: float) -> str:
    return f" [{low:.2f}, {high:.2f}]" if low == low else ""
