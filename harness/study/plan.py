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

from harness.experiment import Arm, Experiment, RunSpec, spec_of
from harness.identity import Identity
from harness.models.build import built_in
from harness.names import checked_name
from harness.store.folders import FinishedRuns
from harness.store.reader import Key
from harness.store.schema import ArmPlan, Manifest
from harness.study.designs import ArmNames, Design, PlannedArm, arms_of, parse_arm
from harness.study.stages import FOLDER, NO_STAGES, Stages, declared, find_stages, relative_cost
from harness.study.workers.job import stage_file
from harness.training.place import Place
from harness.tricks import registry
from harness.tricks.contract import Trick
from harness.tricks.kinds import joint_kind
from harness.tricks.stack import Stack, conflicts
from harness.values import canonical
from harness.version import __version__


@dataclass(frozen=True)
class Plan:
    """A study before it runs: its declaration, its runs in the order of doing, and where finished ones lie."""

    manifest: Manifest
    specs: tuple[RunSpec, ...]
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
    def missing(self) -> tuple[RunSpec, ...]:
        """Runs that must be trained, each after the stages that it needs, of which some may have to be trained too."""
        return tuple(spec for specs in self.missing_by_seed.values() for spec in specs)

    @cached_property
    def missing_by_seed(self) -> dict[int, list[RunSpec]]:
        """The same by the seed of the arm's run that needs it first."""
        out: dict[int, list[RunSpec]] = {}
        begun: set[str] = set()
        for spec in self.specs:
            if self.key(spec) in self.found or spec.run_id in begun:
                continue
            needed = self.stages.chain(spec.run_id, self.left | begun)
            begun |= {*needed, spec.run_id}
            out.setdefault(spec.seed, []).extend([*(self.stages.specs[i] for i in needed), spec])
        return out

    def key(self, spec: RunSpec) -> Key:
        """What the row of one of the runs, or of a stage, is found by."""
        if spec.run_id in self.identities:
            return spec.run_id, self.identities[spec.run_id].short, self.manifest.fingerprint
        return self.stages.keys[spec.run_id]

    def label(self, spec: RunSpec) -> str:
        """How a run that is no arm is called; empty for an arm's."""
        if spec.run_id in self.identities:
            return ""
        return next((s.label for s in self.manifest.stages if spec.run_id in s.runs), spec.arm.label)

    def cost(self, spec: RunSpec) -> float:
        """The expected time of a run in multiples of the baseline's."""
        arm = self.manifest.arm_of.get(spec.run_id)
        return relative_cost(spec, self.specs[0]) if arm is None else arm.cost

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
    experiment: Experiment,
    asked: Sequence[str],
    *,
    design: str | Design,
    seeds: Sequence[int],
    place: Place,
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
    for trick in sorted({*names, *experiment.tricks}):
        registry.check(trick)
    tricks = {n: _trick(experiment, n) for n in names}
    for together in made.factors or [arm.names for arm in made.arms]:
        Stack(tricks[n] for n in together)  # what was asked for as one arm is refused if it clashes
    made = made.skipping(lambda together: conflicts([tricks[n] for n in together]))
    made, arms = _distinct(made, experiment)
    costs = {label: _cost(arm.names, tricks) for label, arm in arms.items()}
    specs = {
        (arm.label, seed): spec_of(experiment, arms[arm.label], seed)
        for arm in made.arms
        if arm.skipped is None
        for seed in seeds
    }
    identities = {spec.run_id: place.identity(spec, images) for spec in specs.values()}
    base = spec_of(experiment, Arm(), seeds[0])
    stages = find_stages([base, *specs.values()], place, images)
    before = declared(stages, {spec.run_id: label for (label, _), spec in specs.items()}, base)
    plans = tuple(
        ArmPlan(
            label=arm.label,
            tricks={t.name: t.params for t in arms[arm.label].tricks},
            run_ids={seed: specs[arm.label, seed].run_id for seed in seeds if arm.skipped is None},
            skipped=arm.skipped,
            summary="; ".join(tricks[n].info.summary for n in arm.names),
            cost=costs[arm.label],
            identity=place.identity(spec_of(experiment, arms[arm.label], 0), images).short,
            kind=joint_kind(tricks[n].info.kind for n in arm.names),
        )
        for arm in made.arms
    )
    q = experiment.experiment
    machine = place.fingerprint(experiment)
    manifest = Manifest(
        study=checked_name(name) if name is not None else study_name(q.name, made.name, asked, seeds[0]),
        experiment=q.name,
        question=q.question,
        metric=q.metric,
        margin=q.margin,
        alpha=experiment.study.alpha,
        design=made.name,
        seeds=tuple(seeds),
        arms=plans,
        fingerprint=machine["fingerprint"],
        data=images,
        settings={k: v for k, v in canonical(spec_of(experiment, Arm(), 0)).items() if k not in ("arm", "seed")},
        scope=scope_of(experiment),
        command=command,
        asked=dict(request or {}),
        toml=toml,
        harness_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        factors=tuple("+".join(factor) for factor in made.factors),
        notes=(*made.notes, *filter(None, [note, _of_classes(experiment)])),
        network=built_in(experiment.model).sentence,
        level=level,
        replicates=replicates,
        stages=before,
    )
    # Whole blocks first, so that a study that is stopped early has pairs; in a block the longest run first,
    # so that the last one does not leave the other workers idle.
    order = sorted(specs, key=lambda k: (k[1], -costs[k[0]], k[0]))
    ordered = tuple(specs[k] for k in order)
    return Plan(manifest, ordered, identities, {}, (), machine["fingerprint_json"], stages).look(results)


def moved(plan: Plan, place: Place, results: Path, note: str) -> Plan:
    """The plan for another place, with a note that says why; it has another fingerprint, and finds other runs."""
    machine = place.fingerprint(plan.specs[0])
    stages = find_stages(plan.specs, place, plan.manifest.data)
    marks = {i: key[2] for i, key in stages.keys.items()}
    before = tuple(s.model_copy(update={"fingerprint": marks[next(iter(s.runs))]}) for s in plan.manifest.stages)
    manifest = plan.manifest.model_copy(update={"fingerprint": machine["fingerprint"], "stages": before})
    there = replace(plan, manifest=manifest, machine=machine["fingerprint_json"], stages=stages)
    return there.noted(note).look(results)


def clashes(experiment: Experiment, arm: str) -> list[str]:
    """Why the tricks of "a+b" cannot be combined; empty when they can."""
    return conflicts([_trick(experiment, name) for name in parse_arm(arm)])


def _trick(experiment: Experiment, name: str, params: Mapping[str, Any] | None = None) -> Trick:
    """A trick with the experiment's hyperparameters, and over them those of one arm."""
    own = params or {}
    origins = experiment.origins.given({("tricks", name, key): f"{name}.{key}={value}" for key, value in own.items()})
    return registry.make(name, {**experiment.tricks.get(name, {}), **own}, origins)


def _arm(experiment: Experiment, arm: PlannedArm) -> Arm:
    return Arm(tricks=tuple(_trick(experiment, n, arm.params.get(n)).spec() for n in arm.names))


def _distinct(design: Design, experiment: Experiment) -> tuple[Design, dict[str, Arm]]:
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


def _cost(names: ArmNames, tricks: Mapping[str, Trick]) -> float:
    cost = 1.0
    for n in names:
        cost *= tricks[n].info.cost
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


def _of_classes(experiment: Experiment) -> str:
    """What to read where classes differ in size on purpose; empty where they do not."""
    if experiment.data.imbalance == 1:
        return ""
    return (
        f"Training classes differ in size (data.imbalance = {experiment.data.imbalance:g}); what a trick does to the "
        "rare ones stands in harness report --metric balanced_accuracy and worst_class_recall."
    )


def scope_of(experiment: Experiment) -> str:
    """The workload in a few words, for the sentences of verdicts."""
    d, r = experiment.data, experiment.recipe
    size = f"{d.train_size:,}" if d.train_size else "all"
    parts = [d.root or d.name, f"{size} training images"]
    if d.image_size:
        parts.append(f"{d.image_size} px")
    if d.classes:
        parts.append(f"{d.classes if isinstance(d.classes, int) else len(d.classes)} classes")
    if d.label_noise:
        parts.append(f"{d.label_noise:.0%} label noise")
    if d.imbalance < 1:
        parts.append(f"imbalance {d.imbalance:g}")
    width = f" width {experiment.model.width}" if experiment.model.width else ""
    start = " pretrained" if experiment.model.pretrained else ""
    return ", ".join([*parts, f"{experiment.model.name}{width}{start}", f"{r.epochs} epochs"])
