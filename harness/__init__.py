"""Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?

    import harness

    study = harness.ablate("mixup", seeds=10)     # trains what is missing; `harness ablate mixup --seeds 10`
    study.effects                                 # a DataFrame: each arm's effect with its interval and verdict
    study = harness.load("digits-noisy-mixup")          # a stored one

Importing this imports neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.version import __version__

if TYPE_CHECKING:
    from harness.api import Study, ablate, conditions, judge, load, replicate, search

LAZY = ("Study", "ablate", "conditions", "judge", "load", "replicate", "search")
__all__ = ["Study", "UserError", "__version__", "ablate", "conditions", "judge", "load", "replicate", "search"]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
