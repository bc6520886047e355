"""Which runs the runs of a study need before them, how they are called and what they may cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.experiment import PREMISES, Model, RunSpec
from harness.identity import Identity
from harness.models.build import build, example_of
from harness.store.reader import Key
from harness.store.schema import StagePlan
from harness.study.workers.job import stage_file
from harness.training.execute import forward_flops
from harness.training.place import Place
from harness.tricks import registry
from harness.tricks.needs import needs_of, stages_of
from harness.values import canonical

FOLDER = ".stages"
"""In the folder of all studies: what runs leave for runs that need them."""


NAMED = 3
"""Values that the name of a stage holds."""


@dataclass(frozen=True)
class Stages:
    """The runs that some runs need, by run id and in an order of doing, and what else is known of them.

    `direct` has the ids of what a run needs itself, for runs and stages that need any. `keys` are what the row of a
    stage is found by.
    """

    specs: Mapping[str, RunSpec]
    direct: Mapping[str, tuple[str, ...]]
    identities: Mapping[str, Identity]
    keys: Mapping[str, Key]

    def chain(self, run_id: str, left: Collection[str] = ()) -> list[str]:
        """The ids of all that a run needs, in an order of doing; without those `left`, and what only they need."""
        wanted: set[str] = set()
        begun = [run_id]
        while begun:
            new = [i for i in self.direct.get(begun.pop(), ()) if i not in wanted and i not in left]
            wanted.update(new)
            begun += new
        return [i for i in self.specs if i in wanted]

    def files(self, run_id: str, folder: Path) -> dict[str, Path]:
        """The files of what a run needs itself, by run id, in that folder."""
        return {stage: stage_file(self.keys[stage], folder) for stage in self.direct.get(run_id, ())}


NO_STAGES = Stages({}, {}, {}, {})


def find_stages(specs: Sequence[RunSpec], place: Place, images: str) -> Stages:
    """The stages of some runs, all on the images with that content digest; empty where they are not here.

    Raises:
        UserError: runs need each other, or data or code of a stage cannot be found.
    """
    needing = [spec for spec in specs if any(registry.may_need(name) for name in spec.arm.names)]
    if not needing:
        return NO_STAGES
    found = stages_of(needing)
    own = specs[0].data.images
    identities = {
        run_id: place.identity(stage, images if not images or stage.data.images == own else place.digest(stage.data))
        for run_id, stage in found.items()
    }
    keys = {i: (i, identities[i].short, place.fingerprint(stage)["fingerprint"]) for i, stage in found.items()}
    direct = {s.run_id: tuple(n.run_id for n in needs_of(s)) for s in (*found.values(), *needing)}
    return Stages(found, direct, identities, keys)


def declared(stages: Stages, arms: Mapping[str, str], base: RunSpec) -> tuple[StagePlan, ...]:
    """The stages of a study as it declares them, those that differ in nothing but their seeds together.

    Args:
        stages: of the runs of its arms.
        arms: the label of the arm of each run, by run id.
        base: a run of the baseline.
    """
    needed_by: dict[str, dict[str, None]] = {}
    for run_id, arm in arms.items():
        for stage in stages.chain(run_id):
            if stage not in arms:
                needed_by.setdefault(stage, {})[arm] = None
    alike: dict[tuple[str, str], list[str]] = {}
    for run_id in (i for i in stages.specs if i in needed_by):
        alike.setdefault((label_of(stages.specs[run_id], base), stages.keys[run_id][2]), []).append(run_id)
    return tuple(
        StagePlan(
            label=label,
            arms=tuple(dict.fromkeys(arm for i in ids for arm in needed_by[i])),
            runs={i: stages.keys[i][1] for i in ids},
            fingerprint=fingerprint,
        )
        for (label, fingerprint), ids in alike.items()
    )


def label_of(stage: RunSpec, base: RunSpec) -> str:
    """How a stage is called: its arm, and what is other than in the baseline: "baseline (model.width 32)"."""
    old, new = (_flat({k: canonical(spec)[k] for k in PREMISES}) for spec in (base, stage))
    changed = [f"{k} {new[k]}" if k in new else f"no {k}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
    named = changed if len(changed) <= NAMED else [*changed[: NAMED - 1], f"{len(changed) - NAMED + 1} more"]
    return stage.arm.label + (f" ({', '.join(named)})" if changed else "")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def relative_cost(stage: RunSpec, base: RunSpec) -> float:
    """The training time of a stage in multiples of the baseline's, as far as specs and cards tell.

    That is the ratio of the networks' forward FLOPs for images of one size, times those of images and epochs, times the
    costs of its tricks' steps.
    """
    images = _images(stage) / _images(base)
    epochs = stage.recipe.epochs / base.recipe.epochs
    cost = 1.0
    for trick in stage.arm.tricks:
        cost *= registry.load(trick.name).info.cost
    return cost * images * epochs * _size(stage.model, base.model, base.data.image_size or 32)


def _images(spec: RunSpec) -> float:
    """Images of an epoch; without a size, as many as any."""
    return (spec.data.train_size or 1) * spec.data.fold_share


def _size(model: Model, base: Model, side: int) -> float:
    """The forward FLOPs of a network over those of another one; 1 where one does not take such images."""
    if model == base:
        return 1.0
    try:
        return _flops(model.model_dump_json(), side) / _flops(base.model_dump_json(), side)
    except (UserError, RuntimeError, ValueError, AssertionError):
        return 1.0


@lru_cache(maxsize=64)
def _flops(model: str, side: int) -> int:
    data = example_of(channels=3, size=side)
    return forward_flops(build(Model.model_validate_json(model), data, 0), data)
