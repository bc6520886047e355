"""All that a run logged, as numbers that can be compared: two runs that logged the same are the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection

from harness.readers.names import CLOCK, words
from harness.readers.record import Run

Logged = tuple[tuple[tuple[str, float], ...], ...]
"""Rows of (name, number), sorted by name."""


def logged(run: Run, settings: Collection[str | None] = ()) -> Logged:
    """The numbers that a run logged, its scores first and then its curve; without clocks and what is no result.

    Args:
        run: as a reader gives it.
        settings: names of values that are settings.
    """
    return tuple(
        tuple(
            (name, value)
            for name, value in sorted(row.items())
            if isinstance(value, int | float) and name not in settings and not set(words(name)) & CLOCK
        )
        for row in (run.values, *run.curve)
    )


def digest(numbers: Logged) -> str:
    """16 hex digits of the sha256 of what a run logged; empty where that is nothing."""
    if not any(numbers):
        return ""
    return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()[:16]
