"""Runs that tricks ask for before their own (`Trick.needs`), as specs."""

from __future__ import annotations

from typing import Any

from harness.errors import UserError
from harness.experiment import Arm, RunSpec, TrickSpec
from harness.models.architectures import ARCHITECTURES
from harness.tricks import registry
from harness.tricks.contract import HOOKS, NotApplicable, overrides

CHANGING = {"stream_seed", "model", "init"}
SHAPING = {*CHANGING, "prepare", "finalize"}
"""Hooks that change the network or its initial weights, and those of a trick that does nothing else."""


def plain(spec: RunSpec) -> RunSpec:
    """The run of the same experiment and seed without tricks."""
    return spec.model_copy(update={"arm": Arm()})


def on_folds(spec: RunSpec, count: int, alone: bool = False) -> tuple[RunSpec, ...]:
    """The run on all but one of `count` folds of its training images, for each fold; or on each fold alone.

    `stage.logits("rest")` is what such a run says of the images that it leaves out, `stage.part("rest")`.

    Raises:
        NotApplicable: the run is on a fold already.
        UserError: `count` is below 2.
    """
    if spec.data.fold is not None:
        raise NotApplicable("folds of a fold are not made; leave data.fold out")
    if count < 2:
        raise UserError(f"{count} fold: images are parted into at least 2")
    return tuple(
        spec.model_copy(update={"data": spec.data.model_copy(update={"fold": (k, count), "fold_alone": alone})})
        for k in range(count)
    )


def wider_baseline(spec: RunSpec, width_factor: int, epochs_factor: int) -> RunSpec:
    """A teacher: the run without tricks on the same data and seed, with wider layers and more epochs.

    Raises:
        NotApplicable: the model has no width that could be multiplied.
    """
    model, recipe = spec.model, spec.recipe
    if width_factor > 1:
        if model.name not in ARCHITECTURES:
            raise NotApplicable(f"{model.name} has no width to multiply; set teacher_width_factor = 1")
        width = model.width or ARCHITECTURES[model.name][0]
        model = model.model_copy(update={"width": width * width_factor, "weights": None})  # those fit one width
    recipe = recipe.model_copy(update={"epochs": recipe.epochs * epochs_factor})
    return plain(spec).model_copy(update={"model": model, "recipe": recipe})


def used(name: str, **params: Any) -> TrickSpec:
    """A trick as part of an arm.

    Raises:
        UserError: an unknown parameter, or a value outside its domain.
    """
    return registry.make(name, params).spec()


def same_network(spec: RunSpec, *tricks: TrickSpec) -> RunSpec:
    """The run of these tricks on the network that the run's own tricks shape, from the same initial weights."""
    new = {trick.name for trick in tricks}
    kept = [t for t in spec.arm.tricks if t.name not in new and _shapes(t)]
    return spec.model_copy(update={"arm": Arm(tricks=(*kept, *tricks))})


def _shapes(trick: TrickSpec) -> bool:
    made = registry.make(trick.name, trick.params)
    hooks = {hook for hook in HOOKS if overrides(made, hook)}
    return hooks <= SHAPING and not hooks.isdisjoint(CHANGING)
