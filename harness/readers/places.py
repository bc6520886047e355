"""What the place of a run's files says of it, where its program wrote its settings nowhere that can be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.readers.table import plain

_SEED = re.compile(r"(?<![A-Za-z0-9])seed[-_=]?([0-9]+)(?![0-9])", re.IGNORECASE)
_COUNTER = re.compile(r"(?<![^/])(?:version_[0-9]+|lightning_logs)(?![^/])")
"""What Lightning numbers its runs by: it says nothing of them."""

_VALUE = re.compile(r"([A-Za-z][\w.]*)=([^,/]+)")


def of_place(place: Path, root: Path) -> dict[str, Any]:
    """Values from the name of a run's folder below the one that was given, as in "mixup=0.2/seed_3".

    `seed` is the number behind that word, NAME=VALUE are values, and `method` is what is left of the name without the
    seed.
    """
    name = place.relative_to(root).as_posix() if place != root else place.name
    found: dict[str, Any] = {key: plain(value) for key, value in _VALUE.findall(name)}
    seed = _SEED.search(name)
    name = _COUNTER.sub("", name)
    if seed is not None:
        found["seed"] = int(seed[1])
    method = re.sub(r"([-_/,.])[-_/,.]+", r"\1", _SEED.sub("", name)).strip("-_/,.")
    return {**({"method": method} if method else {}), **found}
