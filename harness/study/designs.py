"""Designs: pure functions from the tricks that were asked for to the arms of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import UserError, did_you_mean

ArmNames = tuple[str, ...]
"""The tricks of one arm, sorted; () is the baseline."""


def one_at_a_time(asked: Sequence[ArmNames]) -> list[ArmNames]:
    """The baseline, then each asked arm by itself (a combination that was asked for as "a+b" is one arm)."""
    return [(), *dict.fromkeys(asked)]


DESIGNS: dict[str, Callable[[Sequence[ArmNames]], list[ArmNames]]] = {
    "one_at_a_time": one_at_a_time,
}


def parse_arm(text: str) -> ArmNames:
    """An arm from the command line: trick names joined by "+", in any order."""
    return tuple(sorted({part for part in text.split("+") if part}))


def arms_of(design: str, asked: Sequence[str]) -> list[ArmNames]:
    """The arms of a design.

    Raises:
        UserError: the design is unknown.
    """
    name = design.replace("-", "_")
    if name not in DESIGNS:
        raise UserError(f"unknown design '{design}'{did_you_mean(name, DESIGNS)} Known: {', '.join(DESIGNS)}")
    return DESIGNS[name]([parse_arm(text) for text in asked])
