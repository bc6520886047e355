"""What a study will do, decided before anything runs: arms, runs, and which of them exist already."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.commands.kinds import AnyExperiment, AnySpec, of_loop
from harness.errors import UserError
from harness.experiment import Arm, RunSpec
from harness.identity import Identity
from harness.names import checked_name
from harness.store.folders import FinishedRuns
from harness.store.reader import Key
from harness.store.schema import ArmPlan, Manifest
from harness.study.designs import ArmNames, Design, PlannedArm, arms_of, parse_arm
from harness.study.kinds import (
    AnyTrick,
    card_of,
    check_trick,
    conflicts_of,
    metrics_of,
    network_of,
    notes_of,
    public,
    refuse_clashes,
    scope_of,
    settings_of,
    stages_at,
    trick_of,
    with_base,
)
from harness.study.places import AnyPlace, identity_at, machine_of
from harness.study.stages import FOLDER, NO_STAGES, Stages, declared, relative_cost
from harness.study.workers.job import stage_file
from harness.tricks.kinds import joint_kind
from harness.version import __version__


@dataclass(frozen=True)
class Plan:
    """A study before it runs: its declaration, its runs in the order of doing, and where finished ones lie."""

    manifest: Manifest
    specs: tuple[AnySpec, ...]
    identities: Mapping[str, Identity]
    """Of each run, by run id."""
    found: Mapping[Key, Path]
    problems: tuple[str, ...]
    """Files that could not be read, and stored runs that look alike and are not taken, with the reason."""
    machine: str
    """JSON of what the fingerprint is made of."""
    stages: Stages = NO_STAGES
    """What the runs need, whether it is there or not."""
    left: frozenset[str] = frozenset()
    """The ids of those stages that are trained and have left what runs that need them want."""

    @cached_property
    def missing(self) -> tuple[AnySpec, ...]:
        """Runs that must be trained, each after the stages that it needs, of which some may have to be trained too."""
        return tuple(spec for specs in self.missing_by_seed.values() for spec in specs)

    @cached_property
    def missing_by_seed(self) -> dict[int, list[AnySpec]]:
        """The same by the seed of the arm's run that needs it first."""
        out: dict[int, list[AnySpec]] = {}
        begun: set[str] = set()
        for spec in self.specs:
            if self.key(spec) in self.found or spec.run_id in begun:
                continue
            needed = self.stages.chain(spec.run_id, self.left | begun)
            begun |= {*needed, spec.run_id}
            out.setdefault(spec.seed, []).extend([*(self.stages.specs[i] for i in needed), spec])
        return out

    def key(self, spec: AnySpec) -> Key:
        """What the row of one of the runs, or of a stage, is found by."""
        if spec.run_id in self.identities:
            return spec.run_id, self.identities[spec.run_id].short, self.manifest.fingerprint
        return self.stages.keys[spec.run_id]

    def label(self, spec: AnySpec) -> str:
        """How a run that is no arm is called; empty for an arm's."""
        if spec.run_id in self.identities:
            return ""
        return next((s.label for s in self.manifest.stages if spec.run_id in s.runs), spec.arm.label)

    def cost(self, spec: AnySpec) -> float:
        """The expected time of a run in multiples of the baseline's."""
        arm = self.manifest.arm_of.get(spec.run_id)
        if arm is not None:
            return arm.cost
        return relative_cost(of_loop(spec), of_loop(self.specs[0]))

    @property
    def mark(self) -> str:
        """Six hex digits of what the study asks, from the first seed on, whatever the number of seeds."""
        m = self.manifest
        asked = [m.design, m.metric, m.margin, m.alpha, m.data, m.settings, [[a.label, a.tricks] for a in m.arms]]
        asked += m.seeds[:1] if any(m.seeds[:1]) else []
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]

    def renamed(self, study: str) -> Plan:
        """The same plan as a study of another name."""
        return replace(self, manifest=self.manifest.model_copy(update={"study": study}))

    def noted(self, note: str) -> Plan:
        """The same plan with one more sentence that a reader of the results must know, which is said once."""
        if note in self.manifest.notes:
            return self
        return replace(self, manifest=self.manifest.model_copy(update={"notes": (*self.manifest.notes, note)}))

    def look(self, results: Path) -> Plan:
        """The same plan with the finished runs that are stored now."""
        stored, folder = FinishedRuns(results), results / self.manifest.study
        keys = dict.fromkeys((*map(self.key, self.specs), *self.stages.keys.values()))
        where = {key: stored.find(key, folder) for key in keys}
        found = {key: path for key, path in where.items() if path is not None}
        missing = {s.run_id: (self.identities[s.run_id], self.machine) for s in self.specs if self.key(s) not in found}
        home = results / FOLDER
        left = frozenset(i for i, key in self.stages.keys.items() if key in found and stage_file(key, home).is_file())
        return replace(self, found=found, left=left, problems=(*stored.problems, *stored.explain(missing)))


def make_plan(
    experiment: AnyExperiment,
    asked: Sequence[str],
    *,
    design: str | Design,
    seeds: Sequence[int],
    place: AnyPlace,
    results: Path,
    images: str,
    command: str,
    toml: str,
    request: Mapping[str, Any] | None = None,
    name: str | None = None,
    max_arms: int | None = None,
    note: str = "",
    level: float | None = None,
    replicates: str = "",
) -> Plan:
    """Resolve a study completely.

    Args:
        experiment: with all overrides applied.
        asked: arms as typed: trick names, or combinations joined by "+".
        design: which arms to make of them; or one whose arms are made, and then `asked` gives the name only.
        seeds: the blocks.
        place: device and threads, which are part of the fingerprint.
        results: the folder of all studies, searched for finished runs.
        images: content digest of the data set; empty where it is not here, and then no stored run counts.
        command: what reproduces the study.
        toml: the experiment file's text.
        request: what was asked as plain values, of which the command is rendered.
        name: of the study; made from the experiment and the tricks when None.
        note: a sentence that a reader of the results must know, beside those of the design.
        level: as in `Manifest.level`.
        replicates: as in `Manifest.replicates`.
        max_arms: the most arms that the design may have, the baseline included; None for the design's default.

    Raises:
        UserError: an unknown trick or design, a bad hyperparameter, tricks that clash although they were asked
            for as one, more arms than allowed, a name that is no name.
    """
    made = design if isinstance(design, Design) else arms_of(design, asked, max_arms)
    names = sorted({n for arm in made.arms for n in arm.names})
    always = experiment.study.base
    for trick in sorted({*names, *always, *experiment.tricks}):
        check_trick(experiment, trick)
    _refuse_base(made, always)
    tricks = {n: trick_of(experiment, n) for n in (*names, *always)}

    def whole(together: ArmNames) -> list[AnyTrick]:
        return [tricks[n] for n in dict.fromkeys((*always, *together))]

    for together in made.factors or [arm.names for arm in made.arms]:
        refuse_clashes(whole(together))  # what was asked for as one arm is refused if it clashes
    made = made.skipping(lambda together: conflicts_of(whole(together)))
    made, arms = _distinct(made, experiment)
    runs = {label: with_base(experiment, arm) for label, arm in arms.items()}
    costs = {label: _cost(arm.names, tricks) for label, arm in arms.items()}
    specs = {
        (arm.label, seed): experiment.spec(runs[arm.label], seed)
        for arm in made.arms
        if arm.skipped is None
        for seed in seeds
    }
    identities = {spec.run_id: identity_at(place, spec, images) for spec in specs.values()}
    base = experiment.spec(with_base(experiment, Arm()), seeds[0])
    stages = stages_at(place, [base, *specs.values()], images)
    labels = {spec.run_id: label for (label, _), spec in specs.items()}
    before = declared(stages, labels, base) if isinstance(base, RunSpec) else ()
    plans = tuple(
        ArmPlan(
            label=arm.label,
            tricks={t.name: t.params for t in arms[arm.label].tricks},
            run_ids={seed: specs[arm.label, seed].run_id for seed in seeds if arm.skipped is None},
            skipped=arm.skipped,
            summary="; ".join(card_of(tricks[n]).summary for n in arm.names),
            cost=costs[arm.label],
            identity=identity_at(place, experiment.spec(runs[arm.label], 0), images).short,
            kind=joint_kind(card_of(tricks[n]).kind for n in arm.names),
        )
        for arm in made.arms
    )
    q, (metric, metrics) = experiment.experiment, metrics_of(experiment)
    machine = machine_of(place, experiment)
    manifest = Manifest(
        study=checked_name(name) if name is not None else study_name(q.name, made.name, asked, seeds[0]),
        experiment=q.name,
        question=q.question,
        metric=metric,
        margin=q.margin,
        alpha=experiment.study.alpha,
        design=made.name,
        seeds=tuple(seeds),
        arms=plans,
        fingerprint=machine["fingerprint"],
        data=images,
        settings=settings_of(experiment),
        scope=scope_of(experiment),
        command=public(experiment, command),
        asked=json.loads(public(experiment, json.dumps(dict(request or {})))),
        toml=public(experiment, toml),
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        factors=tuple("+".join(factor) for factor in made.factors),
        notes=(*made.notes, *filter(None, [note, *notes_of(experiment)])),
        network=network_of(experiment),
        metrics=metrics,
        level=level,
        replicates=replicates,
        stages=before,
    )
    # Whole blocks first, so that a study that is stopped early has pairs; in a block the longest run first,
    # so that the last one does not leave the other workers idle.
    order = sorted(specs, key=lambda k: (k[1], -costs[k[0]], k[0]))
    ordered = tuple(specs[k] for k in order)
    return Plan(manifest, ordered, identities, {}, (), machine["fingerprint_json"], stages).look(results)


def _refuse_base(design: Design, base: Sequence[str]) -> None:
    """Refuse an arm that only adds what all runs have.

    Raises:
        UserError: names it.
    """
    for name in base:
        if any(arm.names == (name,) and not arm.params for arm in design.arms):
            raise UserError(
                f"{name} is in study.base, so all runs have it, and no arm adds it; take it out of base, or name "
                "other tricks"
            )


def moved(plan: Plan, place: AnyPlace, results: Path, note: str) -> Plan:
    """The plan for another place, with a note that says why; it has another fingerprint, and finds other runs."""
    machine = machine_of(place, plan.specs[0])
    stages = stages_at(place, plan.specs, plan.manifest.data)
    marks = {i: key[2] for i, key in stages.keys.items()}
    before = tuple(s.model_copy(update={"fingerprint": marks[next(iter(s.runs))]}) for s in plan.manifest.stages)
    manifest = plan.manifest.model_copy(update={"fingerprint": machine["fingerprint"], "stages": before})
    there = replace(plan, manifest=manifest, machine=machine["fingerprint_json"], stages=stages)
    return there.noted(note).look(results)


def clashes(experiment: AnyExperiment, arm: str) -> list[str]:
    """Why the tricks of "a+b" cannot be combined; empty when they can."""
    return conflicts_of([trick_of(experiment, name) for name in parse_arm(arm)])


def _arm(experiment: AnyExperiment, arm: PlannedArm) -> Arm:
    return Arm(tricks=tuple(trick_of(experiment, n, arm.params.get(n)).spec() for n in arm.names))


def _distinct(design: Design, experiment: AnyExperiment) -> tuple[Design, dict[str, Arm]]:
    """The design and its arms by label, with every arm once: of those that would train the same runs, the first."""
    kept: dict[str, tuple[PlannedArm, Arm]] = {}
    notes = []
    for planned in design.arms:
        arm = _arm(experiment, planned)
        first, _ = kept.setdefault(arm.model_dump_json(), (planned, arm))
        if first.label != planned.label:
            notes.append(f"{planned.label} has the values of {first.label}, so it is no arm of its own.")
    arms = {planned.label: arm for planned, arm in kept.values()}
    return replace(design, arms=tuple(p for p, _ in kept.values()), notes=(*design.notes, *notes)), arms


def _cost(names: ArmNames, tricks: Mapping[str, AnyTrick]) -> float:
    cost = 1.0
    for n in names:
        cost *= card_of(tricks[n]).cost
    return cost


def study_name(experiment: str, design: str, asked: Sequence[str], first: int = 0) -> str:
    """A short name that is the same whatever the order of the tricks, where the order changes nothing.

    Seeds from another `first` one than 0 are in it, so that they and more of them have a study of their own.
    """
    parts = list(dict.fromkeys("+".join(parse_arm(text)) for text in asked))
    if design != "cumulative":
        parts.sort()
    mark = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:6]
    prefix = [] if design == "one_at_a_time" else [design.replace("_", "-")]
    tail = "-".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part) for part in parts)
    if len(parts) > 3:
        tail = f"{len(parts)}-tricks-{mark}"
    elif len(tail) > 60:
        tail = f"{tail[:50]}-{mark}"
    start = f"seeds-from-{first}" if first else ""
    return "-".join(part for part in (experiment, *prefix, tail, start) if part)
