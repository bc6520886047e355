"""What a trick does to the baseline, and of which kind an arm is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

TrickKind = Literal["addition", "removal", "value", "fault", "fine-tuning", "protocol", "control"]

ADDITION = "addition"

KINDS: Mapping[TrickKind, str] = {
    "addition": "something that people add to a recipe, or take in place of a part of it, to make it better",
    "removal": "takes a part of the baseline away, or puts what it replaced in its place, to see its worth",
    "value": "another value of a number that the baseline has",
    "fault": "a known mistake, made on purpose",
    "fine-tuning": "a method for pretrained networks, which only restricts one that is trained from scratch",
    "protocol": "another budget, way of computing or task: for time or memory, not for a better recipe",
    "control": "must show no effect",
}
"""Each kind with its meaning, in the order in which they are told."""


def joint_kind(kinds: Iterable[str]) -> str:
    """The kind of an arm from those of its tricks: an addition if all are, else the first other one."""
    return next((kind for kind in kinds if kind != ADDITION), ADDITION)
