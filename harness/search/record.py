"""How a search ended: winners, what they are compared with on fresh seeds, and the record that is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from harness import __version__
from harness.experiment import BASELINE, RunSpec, spec_of
from harness.metrics import OBJECTIVES
from harness.search.plan import SearchedArm, SearchPlan
from harness.search.space import Params, settle
from harness.search.trials import REASON, RUN_IDS
from harness.store.schema import TUNED_BASELINE, ArmPlan, Manifest, SearchArm, SearchRecord, Trial
from harness.store.writer import atomically
from harness.study.plan import scope_of

ENOUGH = 10
"""Fewer complete trials than this say nothing of the importance of values."""

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
RECORD = "search.json"


def searched_arm(plan: SearchPlan, arm: SearchedArm, trials: Sequence[FrozenTrial]) -> SearchArm:
    """One arm as it is stored: its space, its trials, and what they say together."""
    best = winner(trials)
    several = len(plan.objectives) > 1
    return SearchArm(
        label=arm.label,
        tricks=arm.tricks,
        space={v.name: v.record() for v in arm.space},
        trials=tuple(_trial(plan, arm, t) for t in trials),
        winner=best.number if best else None,
        front=tuple(t.number for t in _study_of(plan, trials).best_trials) if several else (),
        importance=importance(plan, [v.name for v in arm.space], trials),
        identity=plan.identity(arm).short,
    )


def winner(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the best validation accuracy, of equal ones the first; pruned trials never win."""
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    return max(complete, key=lambda t: (t.values[0], -t.number), default=None)


def params_of(arm: SearchedArm, trial: FrozenTrial) -> dict[str, object]:
    """The values that a trial was trained with."""
    return {v.name: v.used(trial.params[v.name]) for v in arm.space if v.name in trial.params}


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


@dataclass(frozen=True)
class Comparisons:
    """Studies over the fresh seeds by name, and their runs without repetitions."""

    manifests: Mapping[str, Manifest]
    specs: tuple[RunSpec, ...]


def compare(plan: SearchPlan, winners: Mapping[str, Params | None], fingerprint: str) -> Comparisons:
    """What the fresh seeds are for.

    "default": every arm with its default values against the untuned baseline. "tuned": every arm's winner, with
    its own recipe, against the tuned baseline. "tuning": the tuned baseline against the untuned one. The last two
    need a winner of the baseline.

    Intervals of these effects are over seeds. They do not cover the luck of the search, which happened once: another
    one may find a better or worse setting.

    Args:
        plan: of the search.
        winners: the winning values of each arm by label, or None where there are none.
        fingerprint: of the machine that trains the runs.
    """
    made = _Maker(plan, fingerprint)
    baseline = plan.arms[0]
    manifests = {"default": made.manifest("default", [made.arm(arm, {}) for arm in plan.arms])}
    best = winners[BASELINE]
    if best is not None:
        tuned = [made.arm(arm, winners[arm.label]) for arm in plan.arms]
        both = [made.arm(baseline, {}), made.arm(baseline, best).model_copy(update={"label": TUNED_BASELINE})]
        manifests |= {"tuned": made.manifest("tuned", tuned), "tuning": made.manifest("tuning", both)}
    return Comparisons(manifests, tuple(made.specs.values()))


class _Maker:
    """Makes the manifests of a search's comparisons, and keeps the runs that they need."""

    def __init__(self, plan: SearchPlan, fingerprint: str) -> None:
        self.plan, self.fingerprint = plan, fingerprint
        self.specs: dict[str, RunSpec] = {}

    def arm(self, arm: SearchedArm, params: Params | None) -> ArmPlan:
        """An arm with some values, or one that is left out because no trial of it was completed."""
        if params is None:
            return ArmPlan(
                label=arm.label, tricks={t: {} for t in arm.tricks}, skipped="no trial of the search was completed"
            )
        experiment, resolved = settle(self.plan.experiment, arm.tricks, params)
        specs = [spec_of(experiment, resolved, seed) for seed in self.plan.fresh_seeds]
        self.specs |= {s.run_id: s for s in specs}
        values = ", ".join(f"{name} = {value}" for name, value in params.items())
        return ArmPlan(
            label=arm.label,
            tricks={t.name: t.params for t in resolved.tricks},
            run_ids={s.seed: s.run_id for s in specs},
            summary="; ".join(filter(None, [arm.summary, values])),
            cost=arm.cost,
            identity=self.plan.identity(arm).short,
        )

    def manifest(self, name: str, arms: Sequence[ArmPlan]) -> Manifest:
        plan, q = self.plan, self.plan.experiment.experiment
        return Manifest(
            study=f"{plan.search}-{name}",
            experiment=q.name,
            question=q.question,
            metric=q.metric,
            margin=q.margin,
            alpha=plan.experiment.study.alpha,
            design="one_at_a_time",
            seeds=plan.fresh_seeds,
            arms=tuple(arms),
            fingerprint=self.fingerprint,
            scope=scope_of(plan.experiment),
            command=plan.command,
            toml=plan.toml,
            harness_version=__version__,
            created=_now(),
            data=plan.images,
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
        toml=plan.toml,
        harness_version=__version__,
        created=_now(),
        notes=(*plan.notes, *filter(None, [note])),
    )


def write_record(folder: Path, record: SearchRecord) -> None:
    """Store the record, replacing an earlier one."""
    text = record.model_dump_json(indent=2).encode()
    atomically(folder / RECORD, lambda file: file.write(text))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
