"""The cards of the bundled tricks as a file, `index.json`, for what must know of them without importing torch.

The file is made of the cards: `python -m harness.tricks.cards` writes it again after one changed (`make cards`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.tricks.kinds import ADDITION, joint_kind

FILE = Path(__file__).with_name("index.json")


@lru_cache(maxsize=1)
def indexed() -> Mapping[str, Mapping[str, Any]]:
    """The cards by name, as `harness.tricks.cards.made` makes them; tricks of others have none."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def kind_of(tricks: Iterable[str]) -> str:
    """The kind of an arm with these tricks; a trick without a card counts as an addition, as it does by default."""
    return joint_kind(str(indexed().get(name, {}).get("kind", ADDITION)) for name in tricks)
