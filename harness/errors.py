"""Errors that a user can act on. The command line prints their text and nothing else, and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

DEBUG = "HARNESS_DEBUG"
"""The environment variable with which tracebacks are shown; `harness --debug` sets it."""


class UserError(Exception):
    """A wrong input: its text names the offending value, the rule, and what to do."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: "; did you mean 'mixup'?", or "." when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else "."
