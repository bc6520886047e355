"""Values that options give: `--set`, times and numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import plugins
from harness.commands.kinds import AnyExperiment, is_command, load_any
from harness.errors import UserError
from harness.experiment import Experiment
from harness.tricks import registry
from harness.values import Keys, read_seeds, read_value

Typed = dict[Keys, tuple[Any, str]]
"""Values that options gave, each with the option as it was typed, by the keys that lead to it."""


SECTIONS = ("experiment", "data", "model", "recipe", "study")
OF_COMMANDS = ("experiment", "command", "metrics", "curve", "cost", "study")


def parse_settings(settings: Sequence[str], experiment: str) -> Typed:
    """The values of `--set`: trick.param=value, or section.key=value for a section of the experiment.

    Raises:
        UserError: not of the form NAME.KEY=VALUE, or an unknown trick.
    """
    out: Typed = {}
    for text in settings:
        left, equals, right = text.partition("=")
        section, *keys = left.split(".")
        if not (equals and section and keys and all(keys)):
            raise UserError(f"--set {text}: write NAME.KEY=VALUE, for example mixup.alpha=0.4 or recipe.epochs=5")
        commands = is_command(experiment)
        if section not in (OF_COMMANDS if commands else SECTIONS):
            if not commands:  # the tricks of commands are those of the file, which is read later
                registry.check(section)
            keys, section = [section, *keys], "tricks"
        value = None if right == "null" else read_value(right, f"--set {text}")  # TOML has no null
        out[(section, *keys)] = value, f"--set {text}"
    return out


def load(experiment: str, typed: Typed) -> AnyExperiment:
    """The experiment of that name or path with the values that options gave.

    Raises:
        UserError: as in `load_any`, or a value inside one that is no table.
    """
    overrides: dict[str, dict[str, Any]] = {}
    for keys, (value, option) in typed.items():
        *outer, last = keys
        target: Any = overrides
        for key in outer:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise UserError(f"{option}: {key} has another value, which holds no {last}; leave one of them out")
        target[last] = value
    return load_any(experiment, overrides, {keys: option for keys, (_, option) in typed.items()})


def add_parts(experiment: AnyExperiment, known: Sequence[Path]) -> tuple[Path, ...]:
    """Run the files that hold parts of an experiment, as its network and data, once for known plug-ins.

    Returns:
        all plug-ins: the known ones and these.

    Raises:
        UserError: as `plugins.files_of` and `registry.add_plugin`.
    """
    if not isinstance(experiment, Experiment):
        return tuple(known)
    found = plugins.files_of([experiment.model.name, experiment.data.name], experiment.origins.file, known)
    for path in found:
        registry.add_plugin(path)
    return (*known, *found)


def asked_seeds(asked: str | int, more: str = "") -> range:
    """The seeds of `--seeds`; `more` is what else the option takes.

    Raises:
        UserError: as in `read_seeds`.
    """
    try:
        return read_seeds(asked)
    except ValueError as rule:
        raise UserError(f"--seeds {asked}: {rule}{more}") from None


def parse_time(text: str, option: str) -> float:
    """Seconds of a time such as "90s", "20m" or "1.5h", as `option` was given it.

    Raises:
        UserError: not of that form.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
    seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not seconds:
        raise UserError(f"{option} {text}: write a number and s, m or h, for example 20m")
    return seconds
