"""What a search may change of a command: flags that all arms have, and hyperparameters of tricks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.commands.experiment import CommandExperiment
from harness.errors import UserError, did_you_mean
from harness.experiment import Arm
from harness.study.kinds import validation_metric, with_base
from harness.tuning.values import Params, Value
from harness.values import SearchRange

FLAGS = "flags"


def command_space(
    experiment: CommandExperiment, tricks: Sequence[str], nuisance: Sequence[str] | None
) -> tuple[list[Value], list[str]]:
    """The values that a search of one arm may change, and sentences about them that a reader must know.

    Args:
        experiment: its `search` has the ranges: "flags.--lr" and "mixup.alpha".
        tricks: of the arm.
        nuisance: flags to search beside the tricks' values; None for all that have a range.

    Raises:
        UserError: a name or a range that is not possible.
    """
    space, notes = [], []
    sets = {flag: name for name in tricks for flag in experiment.switch(name).flags}
    for name, wanted in experiment.search.items():
        section, _, key = name.partition(".")
        if section == FLAGS:
            value = _value(name, wanted, _default(name, key, experiment.command.flags))
            if nuisance is not None and key not in nuisance:
                continue
            if key in sets:
                notes.append(f"{name} is not searched for {'+'.join(tricks)}, which sets its own.")
                continue
            space.append(value)
        else:
            value = _value(name, wanted, _default(name, key, experiment.switch(section).params))
            space += [value] if section in tricks else []
    for flag in nuisance or ():
        if f"{FLAGS}.{flag}" not in experiment.search:
            raise UserError(f'--nuisance {flag}: give [search] of {experiment.file} "{FLAGS}.{flag}" = [low, high]')
    return [v for v in space if v.levels > 1], notes


def _default(name: str, key: str, known: Any) -> Any:
    if key not in known:
        raise UserError(f"search.{name}: unknown value{did_you_mean(key, known)} Known: {', '.join(known)}")
    return known[key]


def _value(name: str, wanted: SearchRange, default: Any) -> Value:
    if wanted.choices is not None:
        choices = wanted.choices if default in wanted.choices else (default, *wanted.choices)
        return Value(name, default, choices=choices)
    if isinstance(default, bool) or not isinstance(default, int | float):
        raise UserError(f"search.{name}: {default!r} is not a number; write {{choices = [...]}} instead of a range")
    low, high = wanted.low or 0.0, wanted.high or 0.0  # None belongs to choices only
    value = Value(name, default, low, high, wanted.log, isinstance(default, int), wanted.log1m)
    if value.holds_default or (wanted.log and default <= 0) or (wanted.log1m and default >= 1):
        return value
    return replace(value, low=min(low, default), high=max(high, default))


def settle_command(
    experiment: CommandExperiment, names: Sequence[str], params: Params
) -> tuple[CommandExperiment, Arm]:
    """The experiment with the given values, and the arm of the named tricks in it."""
    flags, tricks = dict(experiment.command.flags), {k: dict(v) for k, v in experiment.tricks.items()}
    for name, value in params.items():
        section, _, key = name.partition(".")
        if section == FLAGS:
            flags[key] = value
        else:
            tricks[section][key] = value
    command = experiment.command.model_copy(update={"flags": flags})
    changed = experiment.model_copy(update={"command": command, "tricks": tricks})
    return changed, with_base(changed, Arm(tricks=tuple(changed.switch(name).spec() for name in names)))


def judged_by(experiment: CommandExperiment) -> tuple[str, float]:
    """The metric of validation data by which trials are judged, and what leads from its scores to a fraction.

    Raises:
        UserError: there is none, or it is no share of which more is better.
    """
    name = validation_metric(experiment)
    spec = experiment.declared[name]
    if spec.unit == "none" or spec.better != "higher":
        raise UserError(
            f"{experiment.file}: a search maximizes shares, and metrics.{name} is none ({spec.unit}, {spec.better} is "
            'better); give another metric of validation data unit = "percent" or "fraction"'
        )
    return name, 0.01 if spec.unit == "percent" else 1.0
