"""What one trial is: a setting trained on a block of seeds, and what validation says of it; not which setting."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from harness.commands.kinds import AnyExperiment, AnySpec
from harness.errors import UserError
from harness.tuning.space import settle
from harness.tuning.values import Params

RUN_IDS, REASON = "run_ids", "reason"
"""User attributes of a trial, beside one for each objective: its values by seed, in the order of the run ids."""


@dataclass(frozen=True)
class Score:
    """What a trial may know of a run: its status, the reason, and its value of each objective. No test metric."""

    status: str
    reason: str
    values: Mapping[str, float | None]


Evaluate = Callable[[AnySpec], Score]
"""Trains a run, or looks it up."""


class Refused(Exception):
    """A setting that cannot be trained: its trial fails with the reason, and the search goes on."""


class Stopped(BaseException):
    """The search ends while a trial is under way: it stays as it is, for the next process to begin again.

    No `Exception`, so that Optuna does not tell the storage that the trial failed. `__cause__` says why.
    """


@dataclass(frozen=True)
class BlockObjective:
    """The objective of one arm: the mean over a block of seeds, of each objective.

    Seeds are run one by one, so that the pruner can stop a bad setting early. A diverged seed has accuracy 0, and the
    sampler keeps away from there; with several objectives it ends the trial, since its time and memory say nothing.
    """

    experiment: AnyExperiment
    tricks: tuple[str, ...]
    seeds: tuple[int, ...]
    objectives: tuple[str, ...]
    evaluate: Evaluate

    def __call__(self, trial: optuna.Trial, params: Params) -> tuple[float, ...]:
        """The trial's values. Its user attributes keep run ids, the values by seed and the reason of a failure.

        Raises:
            Refused: a seed failed, was skipped, or the values do not go together.
            optuna.TrialPruned: the pruner stopped it.
            Stopped: something that is not the setting's fault.
        """
        run_ids: dict[str, str] = {}
        values: dict[str, list[float]] = {o: [] for o in self.objectives}
        try:
            for spec in self._specs(params):
                run_ids[str(spec.seed)] = spec.run_id
                for objective, value in self._score(spec).items():
                    values[objective].append(value)
                self._report(trial, spec.seed, values)
        except (Refused, optuna.TrialPruned) as end:
            self._keep(trial, run_ids, values, str(end))
            raise
        except BaseException as error:
            raise Stopped from error
        self._keep(trial, run_ids, values, "")
        return tuple(statistics.fmean(values[o]) for o in self.objectives)

    def _specs(self, params: Params) -> list[AnySpec]:
        try:
            experiment, arm = settle(self.experiment, self.tricks, params)
        except UserError as error:
            raise Refused(str(error)) from None
        return [experiment.spec(arm, seed) for seed in self.seeds]

    def _score(self, spec: AnySpec) -> dict[str, float]:
        score = self.evaluate(spec)
        if score.status == "diverged" and len(self.objectives) == 1:
            return {"accuracy": 0.0}
        missing = [o for o in self.objectives if score.values.get(o) is None]
        if score.status != "ok" or missing:
            why = score.reason or f"no {', '.join(missing)} stored"
            raise Refused(f"seed {spec.seed} {score.status}: {why}")
        return {o: float(v) for o in self.objectives if (v := score.values[o]) is not None}

    def _report(self, trial: optuna.Trial, seed: int, values: Mapping[str, Sequence[float]]) -> None:
        if len(self.objectives) > 1:
            return  # Optuna prunes on one objective only
        trial.report(values["accuracy"][-1], step=seed)
        if seed != self.seeds[-1] and trial.should_prune():  # after the last seed nothing is left to save
            done = len(values["accuracy"])
            raise optuna.TrialPruned(f"stopped after {done} of {len(self.seeds)} seeds")

    def _keep(self, trial: optuna.Trial, run_ids: dict[str, str], values: Mapping[str, Any], reason: str) -> None:
        trial.set_user_attr(RUN_IDS, run_ids)
        for objective, by_seed in values.items():
            trial.set_user_attr(objective, by_seed)
        if reason:
            trial.set_user_attr(REASON, reason)
