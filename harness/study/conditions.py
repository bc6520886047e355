"""Conditions: one experiment at several values of a data, model or recipe option, one study for each.

Every condition has blocks and a baseline of its own, so effects are taken inside a condition and compared
between conditions; runs of two conditions are never paired.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from harness.errors import UserError
from harness.experiment import Experiment, explain
from harness.study.designs import parse_values

SECTIONS = ("data", "model", "recipe")


def conditions(text: str) -> list[tuple[str, str, Any]]:
    """The (section, key, value) of "SECTION.KEY=VALUE,VALUE"; the key of a nested option keeps its dots.

    Raises:
        UserError: the text has another form, names another section, or has fewer than two values.
    """
    left, _, right = text.partition("=")
    section, _, key = left.partition(".")
    values = parse_values(right)
    if section not in SECTIONS or not key:
        raise UserError(
            f"cross with '{text}': write SECTION.KEY=VALUE,VALUE, for example data.label_noise=0,0.2; "
            f"sections: {', '.join(SECTIONS)}"
        )
    if len(values) < 2:
        raise UserError(f"cross with '{text}': name at least two different values, separated by commas")
    return [(section, key, value) for value in values]


def cross(experiment: Experiment, text: str) -> list[tuple[str, Experiment]]:
    """The experiment in every condition, with a label that can end a study's name ("label_noise-0.2").

    The condition also ends the experiment's question, which is the title of its page.

    Args:
        experiment: what the conditions have in common.
        text: "SECTION.KEY=VALUE,VALUE".

    Raises:
        UserError: as in `conditions`, or an unknown key or impossible value; one line for each.
    """
    return [_condition(experiment, *one) for one in conditions(text)]


def _condition(experiment: Experiment, section: str, key: str, value: Any) -> tuple[str, Experiment]:
    tables = experiment.model_dump()
    *nested, last = key.split(".")
    target = tables[section]
    for part in nested:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UserError(f"cross with {section}.{key}: {part} has no options of its own")
    target[last] = value
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    if experiment.experiment.question:
        tables["experiment"]["question"] += f" ({last} = {shown})"
    try:
        changed = Experiment.model_validate(tables)
    except ValidationError as error:
        where = f"cross with {section}.{key}"
        raise UserError("\n".join(explain(error, Experiment, where))) from None
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{last}-{shown}"), changed
