"""Draws the contact sheets that pages of tricks hold, where they are missing: `python -m harness.workflow.sheets`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.report.pages.sheets import FOLDER, place
from harness.tricks.index import indexed
from harness.workflow.pictures import contact_sheet

FAMILIES = ("augment", "mixing")


def draw_missing(cards: Collection[Mapping[str, Any]], folder: Path = FOLDER) -> list[str]:
    """Draw the sheets that tricks of images lack and remove those of other versions; the names that were drawn.

    A trick of these families that leaves stored images as they are has none.
    """
    wanted = {place(card, folder): str(card["name"]) for card in cards if card["trick"] and card["family"] in FAMILIES}
    for old in set(folder.glob("*.webp")) - set(wanted):
        old.unlink()
    drawn = []
    for path, name in wanted.items():
        if not path.is_file():
            try:
                sheet = contact_sheet(name, form="webp")
            except UserError:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sheet)
            drawn.append(name)
    return drawn


if __name__ == "__main__":
    draw_missing(indexed().values())
