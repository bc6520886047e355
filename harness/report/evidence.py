"""What all studies say about single tricks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.analysis.types import Analysis, Effect, Estimate
from harness.report.load import Loaded
from harness.store.schema import ArmPlan


class Origin(NamedTuple):
    """A study that the site shows: its name, the page that tells of it, and its effects."""

    name: str
    page: str
    loaded: Loaded


@dataclass(frozen=True)
class Measured:
    """The effect of one arm of one study; `version` is that of the trick's code, None where no run is stored."""

    origin: Origin
    plan: ArmPlan
    effect: Effect
    version: int | None

    @property
    def analysis(self) -> Analysis:
        """That of the study."""
        return self.origin.loaded.analysis

    @property
    def name(self) -> str:
        """The study, and the arm where its label says more than the trick."""
        return self.origin.name if self.plan.label in self.plan.tricks else f"{self.origin.name}, {self.plan.label}"


@dataclass(frozen=True)
class InStack:
    """What a study of combinations says of one trick: a title such as "Main effects", and the estimate."""

    origin: Origin
    title: str
    estimate: Estimate


@dataclass(frozen=True)
class TrickEvidence:
    """All that the studies say about one trick: arms with it alone, arms with others, and shares of stacks."""

    alone: tuple[Measured, ...] = ()
    stacked: tuple[Measured, ...] = ()
    shares: tuple[InStack, ...] = ()


def gather(origins: Sequence[Origin]) -> dict[str, TrickEvidence]:
    """The evidence by trick, in the order of the studies; methods of scores made elsewhere are no tricks."""
    found: dict[str, dict[str, list[Any]]] = {}
    for origin in (o for o in origins if o.loaded.manifest.in_loop):
        effects = {e.arm: e for e in origin.loaded.analysis.effects}
        version = _versions(origin.loaded)
        for plan in origin.loaded.manifest.arms:
            kind = "alone" if len(plan.tricks) == 1 else "stacked"
            for trick in plan.tricks if plan.label in effects else ():
                measured = Measured(origin, plan, effects[plan.label], version(plan, trick))
                found.setdefault(trick, {}).setdefault(kind, []).append(measured)
        for share in _shares(origin):
            found.setdefault(share.estimate.name, {}).setdefault("shares", []).append(share)
    return {trick: TrickEvidence(**{k: tuple(v) for k, v in lists.items()}) for trick, lists in found.items()}


def _versions(loaded: Loaded) -> Any:
    """A function from an arm and a trick to the version of the trick's code that trained it."""
    specs = dict(zip(loaded.data.runs["run_id"], loaded.data.runs["spec"], strict=True))

    def version(plan: ArmPlan, trick: str) -> int | None:
        spec = next((specs[i] for i in plan.run_ids.values() if isinstance(specs.get(i), str)), None)
        used = json.loads(spec)["arm"]["tricks"] if spec else []
        return next((t["version"] for t in used if t["name"] == trick), None)

    return version


def _shares(origin: Origin) -> Iterable[InStack]:
    """What the study's design says of single tricks inside stacks."""
    design = origin.loaded.design
    if design is None:
        return
    for title, estimates in (
        ("main effect, averaged over the other tricks", design.fit.main if design.fit else ()),
        ("step of the stack, from the arm before it", design.steps),
        ("left out of the full stack", design.leave_one_out),
        ("Shapley value, its share of the full stack", design.shapley),
    ):
        yield from (InStack(origin, title, e) for e in estimates)
