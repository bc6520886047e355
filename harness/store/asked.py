"""A request as plain values, and the command line that it is rendered as."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def command_of(asked: Mapping[str, Any]) -> str:
    """The command that asks for the same."""
    words = ["harness", asked["verb"], *asked["tricks"]]
    for name, value in asked["options"].items():
        if value is None or value is False:
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name}"] if one is True else [f"--{name}", str(one)]
    return shlex.join(words)
