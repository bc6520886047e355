"""What was published about a trick, beside what a study found: the direction, and nothing more.

The figures are in `references.toml`, each with its source. Data, network and schedule differ from a study's, so sizes
are not compared, and an agreement is no reproduction.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.analysis.types import Analysis, Effect
from harness.analysis.verdicts import MIN_SEEDS
from harness.store.schema import Manifest

Direction = Literal["same direction", "opposite direction", "undecided here"]

Percent = Annotated[float, Field(gt=0, lt=100)]
Words = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Measurement(_Strict):
    """One figure as the file has it: `before` without the trick, `after` with it, `sd` the deviations of both."""

    trick: Words
    data: Words
    model: Words
    setup: Words
    before: Percent
    after: Percent
    sd: Annotated[list[Percent], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _has_a_direction(self) -> Measurement:
        if self.before == self.after:
            raise ValueError("before and after are equal, so there is no direction to compare")
        return self


class Publication(_Strict):
    """One table of one publication."""

    cite: Words
    measure: Literal["accuracy", "error"]
    runs: Words
    figure: Annotated[list[Measurement], Field(min_length=1)]


class _File(_Strict):
    source: list[Publication]


@dataclass(frozen=True)
class Published:
    """One published effect of one trick; `effect` is in points of accuracy, positive where the trick helped."""

    measurement: Measurement
    publication: Publication

    @property
    def effect(self) -> float:
        """With the trick minus without it, in points of accuracy."""
        change = self.measurement.after - self.measurement.before
        return change if self.publication.measure == "accuracy" else -change


@dataclass(frozen=True)
class ArmCheck:
    """One arm of a study beside what was published about its trick."""

    effect: Effect
    figures: tuple[tuple[Published, Direction], ...]


@cache
def publications() -> tuple[Publication, ...]:
    """All publications, in the order of the file."""
    text = files(__package__).joinpath("references.toml").read_text(encoding="utf-8")
    return tuple(_File.model_validate(tomllib.loads(text)).source)


def published(trick: str) -> tuple[Published, ...]:
    """All figures about a trick, in the order of the file."""
    return tuple(Published(m, p) for p in publications() for m in p.figure if m.trick == trick)


def direction(figure: Published, effect: Effect) -> Direction:
    """Whether a study's effect on an accuracy points where a published one does.

    A study is undecided while its interval holds zero, or below the number of pairs that a verdict needs.
    """
    if effect.n < MIN_SEEDS or not effect.clear:
        return "undecided here"
    return "same direction" if (effect.mean > 0) == (figure.effect > 0) else "opposite direction"


def check(manifest: Manifest, analysis: Analysis) -> tuple[ArmCheck, ...]:
    """The arms of one trick that something was published about; none unless the study's metric is an accuracy.

    Nor for scores made elsewhere, whose methods may have the name of a trick and be something else.
    """
    if not manifest.in_loop or not analysis.metric.endswith("accuracy"):
        return ()
    effects = {e.arm: e for e in analysis.effects}
    found = []
    for arm in manifest.arms:
        effect = effects.get(arm.label)
        figures = published(next(iter(arm.tricks))) if len(arm.tricks) == 1 else ()
        if figures and effect is not None and effect.n:
            found.append(ArmCheck(effect, against(figures, effect)))
    return tuple(found)


def count(checks: Sequence[ArmCheck]) -> dict[Direction, int]:
    """How many published figures there are of each direction."""
    ways: list[Direction] = ["same direction", "opposite direction", "undecided here"]
    return {way: sum(way == found for c in checks for _, found in c.figures) for way in ways}


def against(figures: Sequence[Published], effect: Effect) -> tuple[tuple[Published, Direction], ...]:
    """Each figure with its direction beside an effect on an accuracy."""
    return tuple((f, direction(f, effect)) for f in figures)
