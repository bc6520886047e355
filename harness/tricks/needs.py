"""The runs that runs need before them, as their tricks declare them, and what numbers with such runs belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from harness.errors import UserError
from harness.experiment import Data, RunSpec
from harness.identity import Identity
from harness.tricks import registry
from harness.tricks.contract import NotApplicable

DEEPEST = 50
"""Stages that may need each other in a chain."""


def needs_of(spec: RunSpec) -> tuple[RunSpec, ...]:
    """The runs that a run needs itself, each once; none where one of its tricks cannot act, as the run will say.

    Raises:
        UserError: a trick is unknown or has an impossible value.
    """
    found: dict[str, RunSpec] = {}
    for used in spec.arm.tricks:
        if not registry.may_need(used.name):
            continue
        trick = registry.make(used.name, used.params)
        try:
            trick.check_acts()
            found |= {stage.run_id: stage for stage in trick.needs(spec)}
        except NotApplicable:
            return ()
    return tuple(found.values())


def stages_of(specs: Iterable[RunSpec]) -> dict[str, RunSpec]:
    """The runs that these runs need, and those that their stages need, by run id and in an order of doing.

    Raises:
        UserError: a run needs itself, or a chain of stages does not end.
    """
    found: dict[str, RunSpec] = {}

    def visit(spec: RunSpec, chain: tuple[str, ...]) -> None:
        for stage in needs_of(spec):
            if stage.run_id in chain or len(chain) > DEEPEST:
                raise UserError(
                    f"the arm {spec.arm.label} needs runs that need runs without an end: the needs() of one of its "
                    f"tricks ({', '.join(spec.arm.names)}) must lead to a run that needs none"
                )
            if stage.run_id not in found:
                visit(stage, (*chain, stage.run_id))
                found[stage.run_id] = stage

    for spec in specs:
        visit(spec, (spec.run_id,))
    return found


def identify(spec: RunSpec, images: str, digest: Callable[[Data], str] | None = None) -> Identity:
    """What decides a run's numbers beside its spec and machine.

    Args:
        spec: the run.
        images: content digest of its data set; empty where that is not here.
        digest: gives that of another data set, where the runs that it needs may be on others.

    Raises:
        UserError: foreign code, pretrained weights or the other data set cannot be found.
    """
    own = registry.identity_of(spec.arm.names, spec.model, images)
    if not any(registry.may_need(name) for name in spec.arm.names):
        return own
    stages = (identify(stage, _images(stage, spec, images, digest), digest) for stage in needs_of(spec))
    return replace(own, stages=tuple(sorted({stage.short for stage in stages if not own.implies(stage)})))


def _images(stage: RunSpec, spec: RunSpec, images: str, digest: Callable[[Data], str] | None) -> str:
    """The content digest of a stage's data set."""
    if stage.data.images == spec.data.images:
        return images
    if digest is None:
        raise UserError(f"{spec.arm.label} needs runs on other images than its own, which is not possible here")
    return digest(stage.data) if images else ""
