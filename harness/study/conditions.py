"""Conditions: one experiment at several values of a data, model or recipe option, one study for each.

Every condition has blocks and a baseline of its own, so effects are taken inside a condition and compared
between conditions; runs of two conditions are never paired.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.errors import UserError
from harness.experiment import PREMISES, Experiment
from harness.values import Keys, read_values

LABEL = 40
"""Most characters of an option and its value in the name of a study."""


def conditions(text: str) -> list[tuple[str, str, Any]]:
    """The (section, key, value) of "SECTION.KEY=VALUE,VALUE"; the key of a nested option keeps its dots.

    Raises:
        UserError: the text has another form, names another section, or has fewer than two values.
    """
    left, _, right = text.partition("=")
    section, _, key = left.partition(".")
    values = read_values(right, f"--cross {text}")
    if section not in PREMISES or not all(key.split(".")):
        raise UserError(
            f"--cross {text}: write SECTION.KEY=VALUE,VALUE, for example data.label_noise=0,0.2; "
            f"sections: {', '.join(PREMISES)}"
        )
    if len(values) < 2:
        raise UserError(f"--cross {text}: name at least two different values, separated by commas")
    return [(section, key, value) for value in values]


def cross(experiment: Experiment, text: str) -> list[tuple[str, Experiment]]:
    """The experiment in every condition, with a label of its own that can end a study's name ("label_noise-0.2").

    The condition also ends the experiment's question, which is the title of its page.

    Args:
        experiment: what the conditions have in common.
        text: "SECTION.KEY=VALUE,VALUE".

    Raises:
        UserError: as in `conditions`, or an unknown key or an impossible value; one line for each.
    """
    asked = conditions(text)
    labels = _labels([(key, value) for _, key, value in asked])
    made = [_condition(experiment, *condition, text) for condition in asked]
    return list(zip(labels, made, strict=True))


def _condition(experiment: Experiment, section: str, key: str, value: Any, text: str) -> Experiment:
    tables = experiment.model_dump(exclude_unset=True)
    *nested, last = key.split(".")
    target = tables[section]
    for part in nested:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UserError(f"--cross {text}: {part} has no options of its own")
    target[last] = value
    if experiment.experiment.question:
        tables["experiment"]["question"] += f" ({last} = {_shown(value)})"
    keys: Keys = (section, *nested, last)
    return Experiment.read(tables, experiment.origins.given({keys: f"--cross {section}.{key}={_shown(value)}"}))


def _labels(asked: Sequence[tuple[str, Any]]) -> list[str]:
    """The option's last name and the value, as a file's name can hold them; marked where that is not enough to tell."""
    labels = [re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{key.split('.')[-1]}-{_shown(value)}")[:LABEL] for key, value in asked]
    times = Counter(label.lower() for label in labels)
    return [
        f"{label}-{hashlib.sha256(repr(value).encode()).hexdigest()[:6]}" if times[label.lower()] > 1 else label
        for label, (_, value) in zip(labels, asked, strict=True)
    ]


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
