"""Planning the rate probe: the runs of arms that collapsed at a lower learning rate (`harness.analysis.probe`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.analysis.probe import FRACTIONS, SEEDS
from harness.commands.kinds import of_loop
from harness.experiment import Arm, RunSpec
from harness.store.schema import Probe
from harness.study.plan import Plan
from harness.study.stages import find_stages
from harness.training.place import Place
from harness.tricks import registry
from harness.tricks.contract import times


def probing(plan: Plan, arms: Sequence[str], place: Place, results: Path) -> Plan:
    """The plan of the probes of some arms: the study's declaration with them, and their runs and no others.

    Args:
        plan: of the study, as it was trained.
        arms: labels.
        place: where they are trained.
        results: the folder of all studies, searched for finished runs.
    """
    manifest, specs = plan.manifest, {spec.run_id: spec for spec in plan.specs}
    probes: list[Probe] = []
    slower: dict[str, RunSpec] = {}
    for arm in manifest.arms:
        for factor in FRACTIONS if arm.label in arms else ():
            runs = {seed: at_rate(of_loop(specs[arm.run_ids[seed]]), factor) for seed in manifest.seeds[:SEEDS]}
            ids = {seed: spec.run_id for seed, spec in runs.items()}
            probes.append(Probe(arm=arm.label, factor=factor, run_ids=ids, identity=arm.identity))
            slower |= {spec.run_id: spec for spec in runs.values()}
    declared = manifest.model_copy(update={"probes": tuple(probes)})
    identities = {run_id: place.identity(spec, manifest.data) for run_id, spec in slower.items()}
    ordered = tuple(sorted(slower.values(), key=lambda spec: spec.seed))
    stages = find_stages(ordered, place, manifest.data)
    return replace(plan, manifest=declared, specs=ordered, identities=identities, stages=stages).look(results)


def at_rate(spec: RunSpec, factor: float) -> RunSpec:
    """The run at that multiple of its learning rate: of the recipe's, and of those that its tricks bring."""
    tricks = tuple(registry.make(t.name, t.params).at_rate(factor).spec() for t in spec.arm.tricks)
    rates = {name: rate for name in ("lr", "head_lr") if (rate := getattr(spec.recipe, name)) is not None}
    recipe = spec.recipe.model_copy(update={name: times(rate, factor) for name, rate in rates.items()})
    return spec.model_copy(update={"recipe": recipe, "arm": Arm(tricks=tricks)})
