"""All trick cards as one HTML document that opens from disk without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.report.render import environment
from harness.store.writer import atomically

Card = Mapping[str, Any]


def render_tricks(cards: Sequence[Card]) -> str:
    """The page of all cards.

    Args:
        cards: plain data as `harness tricks --json` prints it; those of kind "trick" come first on the page, by family,
            and the others in a table after them.
    """
    tricks = sorted((c for c in cards if c["kind"] == "trick"), key=lambda c: (c["family"], c["name"]))
    others = sorted((c for c in cards if c["kind"] != "trick"), key=lambda c: (c["family"], c["name"]))
    return environment.get_template("tricks.html.j2").render(
        families=[(family, list(found)) for family, found in groupby(tricks, key=lambda c: c["family"])],
        others=others,
        tricks={c["name"] for c in tricks},
        value=_value,
        search=_search,
        by_reason=_by_reason,
    )


def write_tricks(cards: Sequence[Card], page: Path) -> Path:
    """Write the page and return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    html = render_tricks(cards)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        atomically(page, lambda file: file.write(html.encode()))
    except OSError as error:
        raise UserError(f"page {page} cannot be written: {error.strerror}; choose another path for --html") from None
    return page


def _value(value: Any) -> str:
    """A default as one writes it: without digits that only binary fractions need."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


def _search(search: Sequence[Any] | None) -> str:
    """A search range in words."""
    if search is None:
        return "not searched"
    if search[-1] in ("log", "linear"):
        low, high, scale = search
        return f"{_value(low)} to {_value(high)}, {scale}"
    return ", ".join(map(_value, search))


def _by_reason(excludes: Mapping[str, str]) -> dict[str, list[str]]:
    """The tricks that share a reason for not being combined, by reason."""
    reasons: dict[str, list[str]] = {}
    for other, why in excludes.items():
        reasons.setdefault(why, []).append(other)
    return reasons
