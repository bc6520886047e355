"""Contact sheets that pages of tricks hold: small files beside the cards, which only showing them does not draw."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.tricks.index import FILE

FOLDER = FILE.with_name("sheets")


def place(card: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Where the sheet of a trick lies, by name and version: that of another version shows what is no longer done."""
    return folder / f"{card['name']}.{card['version']}.webp"


def embedded(card: Mapping[str, Any], folder: Path = FOLDER) -> str | None:
    """The sheet as an address that holds it; None where none of this version was drawn."""
    path = place(card, folder)
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else None
