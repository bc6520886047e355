"""Which ingredients of a published recipe act on an experiment, tried before the study is planned.

A trick that cannot act skips its run with the reason. In a stack that would skip all that has it, so one such
ingredient, as a mirror image of digits, would leave nothing of a recipe: it is left out, and the study says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.experiment import Arm, Experiment
from harness.study.designs import parse_arm
from harness.study.kinds import trick_of
from harness.study.preflight import Throwaway

if TYPE_CHECKING:
    from harness.training.place import Place


def refused(
    experiment: Experiment, arms: Sequence[str], stacked: bool, place: Place, plugins: Sequence[Path] = ()
) -> Mapping[str, str]:
    """The arms that are refused by a trick of theirs, with its reason.

    Args:
        experiment: with all values of the tricks.
        arms: as designs take them.
        stacked: try each on top of those before it that act, as in the arms of a stack; else each alone.
        place: where runs are trained.
        plugins: files with tricks.
    """
    out: dict[str, str] = {}
    stack: list[str] = []
    with Throwaway(replace(place, contiguous=True), plugins) as process:
        for arm in arms:
            names = sorted({name for one in [*stack, arm] for name in parse_arm(one)})
            tricks = tuple(trick_of(experiment, name).spec() for name in names)
            spec = experiment.spec(Arm(tricks=tricks), experiment.study.blocks.start)
            seen = process.rehearse(spec, replace(place, contiguous=True), 1, None)
            if seen is not None and seen.skipped:
                out[arm] = seen.skipped
            elif stacked:
                stack.append(arm)
    return out
