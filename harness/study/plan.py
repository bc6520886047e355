"""What a study will do, decided before anything runs: arms, runs, and which of them exist already."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness import __version__
from harness.errors import UserError
from harness.experiment import BASELINE, Arm, Experiment, RunSpec, Slug, spec_of
from harness.store.reader import find_runs
from harness.store.schema import ArmPlan, Manifest
from harness.study.designs import ArmNames, arms_of
from harness.training.execute import Place
from harness.training.provenance import fingerprint
from harness.tricks import registry
from harness.tricks.contract import Trick
from harness.tricks.stack import Stack


@dataclass(frozen=True)
class Plan:
    """A study before it runs: its declaration, its runs in the order of doing, and where finished ones lie."""

    manifest: Manifest
    specs: tuple[RunSpec, ...]
    found: Mapping[tuple[str, str], Path]
    problems: tuple[str, ...]

    @property
    def missing(self) -> tuple[RunSpec, ...]:
        """Runs that must be trained."""
        return tuple(s for s in self.specs if (s.run_id, self.manifest.fingerprint) not in self.found)


def make_plan(
    experiment: Experiment,
    asked: Sequence[str],
    *,
    design: str,
    seeds: Sequence[int],
    place: Place,
    results: Path,
    command: str,
    toml: str,
    name: str | None = None,
) -> Plan:
    """Resolve a study completely.

    Args:
        experiment: with all overrides applied.
        asked: arms as typed: trick names, or combinations joined by "+".
        design: which arms to make of them.
        seeds: the blocks.
        place: device and threads, which are part of the fingerprint.
        results: the folder of all studies, searched for finished runs.
        command: what reproduces the study.
        toml: the experiment file's text.
        name: of the study; made from the experiment and the tricks when None.

    Raises:
        UserError: an unknown trick or design, a bad hyperparameter, tricks that clash, a name that is no name.
    """
    names = arms_of(design, asked)
    for trick in sorted({n for arm in names for n in arm} | set(experiment.tricks)):
        registry.check(trick)
    tricks: dict[str, Trick] = {
        n: registry.make(n, experiment.tricks.get(n), f"{experiment.experiment.name}: tricks.{n}")
        for n in sorted({n for arm in names for n in arm})
    }
    arms = [_arm(arm, tricks) for arm in names]
    specs = {(arm.label, seed): spec_of(experiment, arm, seed) for arm in arms for seed in seeds}
    costs = {arm.label: _cost(names_, tricks) for arm, names_ in zip(arms, names, strict=True)}
    plans = tuple(
        ArmPlan(
            label=arm.label,
            tricks={t.name: t.params for t in arm.tricks},
            run_ids={seed: specs[arm.label, seed].run_id for seed in seeds},
            summary="; ".join(tricks[n].info.summary for n in arm.names),
            cost=costs[arm.label],
        )
        for arm in arms
    )
    q = experiment.experiment
    mark = fingerprint(experiment.recipe, place.device, place.threads)["fingerprint"]
    manifest = Manifest(
        study=_checked(name) if name else study_name(q.name, design, asked),
        experiment=q.name,
        question=q.question,
        metric=q.metric,
        margin=q.margin,
        alpha=experiment.study.alpha,
        design=design,
        seeds=tuple(seeds),
        arms=plans,
        fingerprint=mark,
        scope=scope_of(experiment),
        command=command,
        toml=toml,
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # Whole blocks first, so that a study that is stopped early has pairs; in a block the longest run first,
    # so that the last one does not leave the other workers idle.
    order = sorted(specs, key=lambda k: (k[1], -costs[k[0]], k[0]))
    found, problems = find_runs(results, {(s.run_id, mark) for s in specs.values()})
    return Plan(manifest, tuple(specs[k] for k in order), found, tuple(problems))


def _arm(names: ArmNames, tricks: Mapping[str, Trick]) -> Arm:
    Stack(tricks[n] for n in names)  # refuses clashes
    return Arm(tricks=tuple(tricks[n].spec() for n in names))


def _cost(names: ArmNames, tricks: Mapping[str, Trick]) -> float:
    cost = 1.0
    for n in names:
        cost *= tricks[n].info.cost
    return cost


def _checked(name: str) -> str:
    try:
        return TypeAdapter(Slug).validate_python(name)
    except ValidationError:
        raise UserError(
            f"study name '{name}': a name is letters, digits, '-', '_', '+' and '.', at most 100, because it becomes "
            "a folder; choose another with --name"
        ) from None


def study_name(experiment: str, design: str, asked: Sequence[str]) -> str:
    """A short name that is the same whatever the order of the tricks."""
    parts = sorted(dict.fromkeys("+".join(sorted(a.split("+"))) for a in asked))
    if len(parts) > 3:
        mark = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:6]
        parts = [f"{len(parts)}-tricks-{mark}"]
    prefix = [] if design == "one_at_a_time" else [design.replace("_", "-")]
    return "-".join([experiment, *prefix, *(p.replace("_", "-") for p in parts)]) or BASELINE


def scope_of(experiment: Experiment) -> str:
    """The workload in a few words, for the sentences of verdicts."""
    d, r = experiment.data, experiment.recipe
    size = f"{d.train_size:,}" if d.train_size else "all"
    parts = [d.root or d.name, f"{size} training images"]
    if d.label_noise:
        parts.append(f"{d.label_noise:.0%} label noise")
    if d.imbalance < 1:
        parts.append(f"imbalance {d.imbalance:g}")
    width = f" width {experiment.model.width}" if experiment.model.width else ""
    return ", ".join([*parts, f"{experiment.model.name}{width}", f"{r.epochs} epochs"])
