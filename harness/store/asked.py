"""What was asked for, as plain data, and the command line that asks for it again.

A declaration holds its request as a dict, `asked`: {"verb": "ablate", "tricks": ["mixup", "ema+sam"], "options":
{"experiment": "digits", "seeds": 10, "set": ["mixup.alpha=0.4"], "until-decided": True}}. Options have the names that
the command line has for them, without dashes; one that was not given is absent, None or False. Command lines are made
from it and never read, but for those of earlier versions, which stored nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from harness.store.schema import Manifest, SearchRecord

ORDER = (
    "experiment", "design", "trials", "seeds", "fresh", "max-arms", "nuisance", "margin", "cross", "budget", "sampler",
    "pruner", "objectives", "data-root", "name", "device", "until-decided", "max-seeds", "no-probe", "set",
    "threads", "cuda-graphs", "plugin",
)  # fmt: skip
"""Options in the order of a command line; others come after them, as they stand in the request."""

_FLAGS = ("until-decided", "cuda-graphs")
_REPEATED = ("set", "plugin")


def command_of(asked: Mapping[str, Any]) -> str:
    """The command line of a request, quoted for a shell; empty where nothing is known of it.

    True is an option without a value, a list is an option given once for each entry.
    """
    if not asked:
        return ""
    words = ["harness", asked["verb"], *asked.get("tricks", ())]
    options = given(asked)
    for name in (*(n for n in ORDER if n in options), *(n for n in options if n not in ORDER)):
        value = options[name]
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [f"--{name}"] if each is True else [f"--{name}", str(each)]
    return shlex.join(words)


def given(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request that have a value."""
    options = asked.get("options", {})
    return {n: v for n, v in options.items() if v is not None and v is not False and v not in ([], ())}


def asked_of(record: Manifest | SearchRecord) -> Mapping[str, Any]:
    """What a declaration asked for; empty where neither it nor the command of an earlier version says so."""
    return record.asked or _parsed(record.command)


def _parsed(command: str) -> dict[str, Any]:
    """The request behind a command line of an earlier version, values as text; empty where it is none of ours."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    if len(words) < 2 or words[0] != "harness":
        return {}
    first = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    options: dict[str, Any] = {}
    rest = iter(words[first:])
    for word in rest:
        name = word.removeprefix("--")
        value = True if name in _FLAGS else next(rest, None)
        if name == word or value is None:
            return {}
        if name in _REPEATED:
            options.setdefault(name, []).append(value)
        else:
            options[name] = value
    return {"verb": words[1], "tricks": words[2:first], "options": options}
