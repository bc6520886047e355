"""Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?

    import harness

    study = harness.ablate("mixup", seeds=10)     # trains what is missing; `harness ablate mixup --seeds 10`
    study.effects                                 # a DataFrame: each arm's effect with its interval and verdict
    study = harness.load("digits-mixup")          # a stored one

Importing this imports neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api import Study, ablate, conditions, load, search

__version__ = "0.2.0"
"""Written here only: the wheel, an editable install and the check of Ray's nodes read it."""
__all__ = ["Study", "ablate", "conditions", "load", "search"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
