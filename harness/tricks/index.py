"""The cards of the bundled tricks as a file, `index.json`, for what must know of them without importing torch.

The file is made of the cards: `python -m harness.tricks.index` writes it again after one changed (`make cards`).
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
    """The cards by name, as `harness.tricks.cards.card` makes them; tricks of others have none."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def kind_of(tricks: Iterable[str]) -> str:
    """The kind of an arm with these tricks; a trick without a card counts as an addition, as it does by default."""
    return joint_kind(str(indexed().get(name, {}).get("kind", ADDITION)) for name in tricks)


def text() -> str:
    """What the file must hold: the cards of the bundled tricks now. Imports them all, and torch."""
    from harness.tricks import registry
    from harness.tricks.cards import card

    return json.dumps({name: card(name) for name in sorted(registry.builtin())}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
