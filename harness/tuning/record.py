"""How a search ended, as `search.json` keeps it: trials, winners, importances; the comparisons are given to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from harness.metrics import OBJECTIVES
from harness.store.schema import Manifest, SearchArm, SearchRecord, Trial
from harness.store.writer import atomically
from harness.study.kinds import scope_of
from harness.tuning.objective import REASON, RUN_IDS
from harness.tuning.plan import SearchedArm, SearchPlan
from harness.version import __version__

ENOUGH = 10
"""Fewer complete trials than this say nothing of the importance of values."""

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
RECORD = "search.json"


def searched_arm(plan: SearchPlan, arm: SearchedArm, trials: Sequence[FrozenTrial]) -> SearchArm:
    """One arm as it is stored: its space, its trials, and what they say together."""
    best = winner(trials)
    several = len(plan.objectives) > 1
    shares = importance(plan, [v.picked_as for v in arm.space], trials)
    return SearchArm(
        label=arm.label,
        tricks=arm.tricks,
        space={v.name: v.record() for v in arm.space},
        trials=tuple(_trial(plan, arm, t) for t in trials),
        winner=best.number if best else None,
        front=tuple(t.number for t in _study_of(plan, trials).best_trials) if several else (),
        importance=shares and {v.name: shares[v.picked_as] for v in arm.space},
        identity=plan.identity(arm).short,
    )


def winner(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the best validation accuracy, of equal ones the first; pruned trials never win."""
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    return max(complete, key=lambda t: (t.values[0], -t.number), default=None)


def params_of(arm: SearchedArm, trial: FrozenTrial) -> dict[str, object]:
    """The values that a trial was trained with."""
    return {v.name: v.used(trial.params[v.picked_as]) for v in arm.space if v.picked_as in trial.params}


def importance(plan: SearchPlan, names: Sequence[str], trials: Sequence[FrozenTrial]) -> dict[str, float] | None:
    """Each value's share of the variance of accuracy (fANOVA, Hutter et al. 2014); None where nothing can be said."""
    whole = [t for t in trials if t.state == TrialState.COMPLETE and set(names) <= set(t.params)]
    if not names or len(whole) < ENOUGH or len({t.values[0] for t in whole}) < 2:
        return None
    try:
        shares = get_param_importances(
            _study_of(plan, whole),
            evaluator=FanovaImportanceEvaluator(seed=0),
            params=list(names),
            target=lambda t: t.values[0],
        )
    except (RuntimeError, ValueError):  # for one, a value that was the same in all trials
        return None
    return {name: float(shares[name]) for name in names} if all(map(math.isfinite, shares.values())) else None


def _study_of(plan: SearchPlan, trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study in memory that has these trials only."""
    study = optuna.create_study(directions=[OBJECTIVES[o].direction for o in plan.objectives])
    study.add_trials(trials)
    return study


def _trial(plan: SearchPlan, arm: SearchedArm, trial: FrozenTrial) -> Trial:
    kept = trial.user_attrs
    return Trial(
        number=trial.number,
        state=STATES[trial.state],
        params=params_of(arm, trial),
        run_ids={int(seed): run_id for seed, run_id in kept.get(RUN_IDS, {}).items()},
        values={o: tuple(kept.get(o, ())) for o in plan.objectives},
        reason=kept.get(REASON, "" if trial.state == TrialState.COMPLETE else "its process died"),
    )


def make_record(
    plan: SearchPlan, arms: Sequence[SearchArm], comparisons: Mapping[str, Manifest], fingerprint: str, note: str = ""
) -> SearchRecord:
    """The record of a search, complete or not; `note` is one more sentence for its readers."""
    q = plan.experiment.experiment
    return SearchRecord(
        search=plan.search,
        experiment=q.name,
        question=q.question,
        scope=scope_of(plan.experiment),
        objectives=plan.objectives,
        trials=plan.trials,
        tuning_seeds=plan.tuning_seeds,
        fresh_seeds=plan.fresh_seeds,
        sampler=plan.sampler,
        pruner=plan.pruner,
        arms=tuple(arms),
        comparisons=dict(comparisons),
        fingerprint=fingerprint,
        command=plan.command,
        asked=dict(plan.asked),
        toml=plan.toml,
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*plan.notes, *filter(None, [note])),
    )


def write_record(folder: Path, record: SearchRecord) -> None:
    """Store the record, replacing an earlier one."""
    text = record.model_dump_json(indent=2).encode()
    atomically(folder / RECORD, lambda file: file.write(text))
