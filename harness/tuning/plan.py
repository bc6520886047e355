"""What a search will do, decided before anything runs: arms, spaces, budgets and seeds; trains and stores nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.commands.experiment import CommandSpec
from harness.commands.kinds import AnyExperiment
from harness.commands.place import CommandPlace
from harness.errors import UserError, did_you_mean
from harness.experiment import BASELINE, Experiment, RunSpec
from harness.identity import Identity
from harness.metrics import OBJECTIVES
from harness.names import checked_name
from harness.study.designs import ArmNames, parse_arm
from harness.study.kinds import AnyTrick, card_of, public, refuse_clashes, trick_of
from harness.study.plan import study_name
from harness.tricks import needs
from harness.tricks.contract import DataInfo, Trick
from harness.tricks.kinds import joint_kind
from harness.tuning.commands import command_space, judged_by
from harness.tuning.samplers import PRUNE_SEEDS, PRUNERS, SAMPLERS, planned
from harness.tuning.space import settle, space_of
from harness.tuning.values import Params, Value


@dataclass(frozen=True)
class SearchedArm:
    """An arm with its space. `first` are the settings that its first trials have; `trials` is its budget."""

    label: str
    tricks: ArmNames
    space: tuple[Value, ...]
    first: tuple[Params, ...]
    trials: int
    summary: str
    cost: float
    kind: str


@dataclass(frozen=True)
class SearchPlan:
    """A search before it runs. `experiment` has all overrides; `arms` begin with the baseline."""

    search: str
    experiment: AnyExperiment
    arms: tuple[SearchedArm, ...]
    trials: int
    tuning_seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    objectives: tuple[str, ...]
    sampler: str
    pruner: str
    command: str
    toml: str
    asked: Mapping[str, Any]
    """The request as plain values, of which `command` is rendered."""
    images: str
    """Content digest of the data set."""
    notes: tuple[str, ...]
    place: CommandPlace | None = None
    """Where commands run; None for runs of the loop, whose identity is the same everywhere."""
    machine: str = "{}"
    """JSON of the fingerprint of the runs; known when the search begins."""

    def identity(self, arm: SearchedArm) -> Identity:
        """What decides the numbers of an arm's runs beside their specs."""
        _, resolved = settle(self.experiment, arm.tricks, {})
        spec = self.experiment.spec(resolved, 0)
        return needs.identify(spec, self.images) if isinstance(spec, RunSpec) else self.place_identity(spec)

    def place_identity(self, spec: CommandSpec) -> Identity:
        """The same of a command, as the place of the search has it."""
        assert self.place is not None, "a search of commands has a place"
        return self.place.identity(spec, self.images)

    @property
    def most_runs(self) -> dict[str, int]:
        """The most runs of each arm: all trials on all seeds, and twice the fresh seeds."""
        return {a.label: a.trials * len(self.tuning_seeds) + 2 * len(self.fresh_seeds) for a in self.arms}

    def settings(self, arm: SearchedArm) -> dict[str, Any]:
        """What all processes and all calls that share an arm's trials must agree on, as plain values."""
        experiment, resolved = settle(self.experiment, arm.tricks, {})
        spec = json.loads(experiment.spec(resolved, 0).canonical_json)
        del spec["seed"]
        grid = {"trials": self.trials} if self.sampler == "grid" else {}  # a grid has as many levels as they fill
        said = {
            **spec,
            **grid,
            "identity": json.loads(self.identity(arm).json),
            "machine": json.loads(self.machine),
            "space": {v.name: v.record() for v in arm.space},
            "seeds": len(self.tuning_seeds),
            "objectives": list(self.objectives),
            "sampler": self.sampler,
            "pruner": self.pruner,
        }
        plain: dict[str, Any] = json.loads(json.dumps(said))
        return plain


def plan_search(
    experiment: AnyExperiment,
    asked: Sequence[str],
    data: DataInfo | None,
    *,
    trials: int,
    seeds: int,
    fresh: int | None,
    nuisance: str | None,
    objectives: str,
    sampler: str,
    pruner: str | None,
    name: str | None,
    command: str,
    toml: str,
    images: str,
    place: CommandPlace | None = None,
    request: Mapping[str, Any] | None = None,
) -> SearchPlan:
    """Resolve a search completely.

    Args:
        experiment: with all overrides applied.
        asked: arms as typed: trick names, or combinations joined by "+".
        data: of the experiment; None where its runs are commands.
        trials: for each arm, the baseline included.
        seeds: how many seeds each trial is trained on, from 0.
        fresh: how many seeds after those the winners are compared on; the experiment's number when None.
        nuisance: names of the recipe's values, separated by commas; "none"; or None for the usual ones.
        objectives: "accuracy", and perhaps more, separated by commas.
        sampler: of `SAMPLERS`.
        pruner: of `PRUNERS`; None for "wilcoxon" where it can work.
        name: of the search; made from the experiment and the tricks when None.
        command: what reproduces the search.
        toml: the experiment file's text.
        images: content digest of the data set.
        place: of commands.
        request: what was asked, as plain values.

    Raises:
        UserError: something of this is not possible.
    """
    wanted = _objectives(objectives)
    _known("--sampler", sampler, SAMPLERS)
    chosen = _pruner(pruner, wanted, sampler, seeds)
    names: list[ArmNames] = [(), *dict.fromkeys(parse_arm(text) for text in asked)]
    stream = f"{sampler}/"
    arms, notes = [], []
    for tricks in names:
        made = [trick_of(experiment, n) for n in tricks]
        refuse_clashes(made)  # before anything is trained
        space, said = _space(experiment, made, _names(nuisance), data)
        label = "+".join(tricks) or BASELINE
        first = planned(sampler, space, trials, stream + label) if space else [{}]
        arm = SearchedArm(
            label=label,
            tricks=tricks,
            space=tuple(space),
            first=tuple(first),
            trials=_budget(sampler, space, trials, len(first)),
            summary="; ".join(card_of(t).summary for t in made),
            cost=math.prod(card_of(t).cost for t in made),
            kind=joint_kind(card_of(t).kind for t in made),
        )
        arms.append(arm)
        notes += [*said, *_short(arm, trials)]
    if not any(arm.space for arm in arms):
        raise UserError(
            f"{' '.join(asked)}: nothing to search; name values of the recipe with --nuisance, or give ranges in "
            "[search] of the experiment file"
        )
    return SearchPlan(
        search=checked_name(name) if name is not None else study_name(experiment.experiment.name, "search", asked),
        experiment=experiment,
        arms=tuple(arms),
        trials=trials,
        tuning_seeds=tuple(range(seeds)),
        fresh_seeds=tuple(range(seeds, seeds + (fresh or len(experiment.study.blocks)))),
        objectives=wanted,
        sampler=sampler,
        pruner=chosen,
        command=public(experiment, command),
        toml=public(experiment, toml),
        asked=json.loads(public(experiment, json.dumps(dict(request or {})))),
        images=images,
        place=place,
        notes=tuple(dict.fromkeys(notes)),
    )


def _space(
    experiment: AnyExperiment, tricks: Sequence[AnyTrick], nuisance: Sequence[str] | None, data: DataInfo | None
) -> tuple[list[Value], list[str]]:
    """The values that a search of one arm may change, and sentences about them."""
    if isinstance(experiment, Experiment):
        assert data is not None, "the loop has data"
        return space_of(experiment, [t for t in tricks if isinstance(t, Trick)], nuisance, data)
    name, _ = judged_by(experiment)
    space, notes = command_space(experiment, [t.name for t in tricks], nuisance)
    return space, [
        *notes,
        f"Trials are judged by {name} of validation data, which this page calls validation accuracy.",
    ]


def _objectives(text: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for objective in wanted:
        _known("--objectives", objective, OBJECTIVES)
    if wanted[0] != "accuracy":
        raise UserError(f"--objectives {text}: accuracy comes first, because it decides the winner")
    return wanted


def _known(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise UserError(f"{option} {value}: unknown{did_you_mean(value, known)} Known: {', '.join(known)}")


def _pruner(asked: str | None, objectives: Sequence[str], sampler: str, seeds: int) -> str:
    """The pruner asked for, or "wilcoxon" where it can work and else "none"."""
    if asked is not None:
        _known("--pruner", asked, PRUNERS)
    why = ""
    if len(objectives) > 1:
        why = "trials are pruned on one objective only"
    elif sampler == "gp":
        why = "a Gaussian process learns from complete trials only"
    elif seeds < PRUNE_SEEDS:
        why = f"it needs 4 seeds to tell that a trial is worse, so it saves nothing below --seeds {PRUNE_SEEDS}"
    if asked == "wilcoxon" and why:
        raise UserError(f"--pruner {asked}: {why}; leave it out")
    return asked or ("none" if why else "wilcoxon")


def _names(nuisance: str | None) -> list[str] | None:
    if nuisance is None:
        return None
    if nuisance == "none":
        return []
    return [part.strip().removeprefix("recipe.") for part in nuisance.split(",") if part.strip()]


def _budget(sampler: str, space: Sequence[Value], trials: int, first: int) -> int:
    if not space:
        return 1
    return min(trials, first) if sampler == "grid" else trials


def _short(arm: SearchedArm, trials: int) -> list[str]:
    """Why an arm has fewer trials than the others."""
    if not arm.space:
        return [f"{arm.label} has nothing to search, so its default values are its only trial."]
    if arm.trials < trials:
        return [f"{arm.label}: the grid has {arm.trials} different settings, and {trials} trials were asked for."]
    return []
