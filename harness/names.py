"""What a study may be called: its name is a folder of the results and a page of the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError

from harness.errors import UserError
from harness.values import shown

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=100)]
"""A name that becomes part of a path: no separators, no leading dot."""

RESERVED = ("index", "tricks", "published", "bench")
"""Names that no study can have, because pages of the site or folders of the results do."""


def checked_name(name: str) -> str:
    """A study's name, which must be able to become a folder's.

    Raises:
        UserError: it cannot.
    """
    if name.lower() in RESERVED:
        raise UserError(f"study name '{name}': a page or a folder of ours has it; choose another with --name")
    try:
        return TypeAdapter(Slug).validate_python(name)
    except ValidationError:
        raise UserError(
            f"study name {shown(name)}: a name is letters, digits, '-', '_', '+' and '.', at most 100, because it "
            "becomes a folder; choose another with --name"
        ) from None


SEARCHING = ".search"
"""A file in the folder of a search from its beginning: its record comes at the end."""


def check_free(results: Path, name: str, kind: str) -> None:
    """Refuse a name that a study and a search would share, because each has its folder and its page by it.

    Args:
        results: the folder of all studies and searches.
        name: of what is to be done.
        kind: "study" or "search", which is what that is.

    Raises:
        UserError: the other kind has the name, here or among those published.
    """
    other, files = ("search", ("search.json", SEARCHING)) if kind == "study" else ("study", ("study.json",))
    for folder in (results / name, results / "published" / name):
        if any((folder / file).exists() for file in files):
            raise UserError(f"{folder} holds a {other}, so a {kind} cannot have its name; choose another with --name")
