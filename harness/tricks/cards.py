"""Trick cards as plain data, for the command line and the site: from the index where it has them, without torch."""

from __future__ import annotations

import json
from typing import Any

from harness.tricks import registry
from harness.tricks.index import FILE, indexed
from harness.tricks.not_applicable import known_names


def card(name: str) -> dict[str, Any]:
    """What is known about a name, as plain data; `trick` says whether it is a trick here.

    A trick: its `Info` and, for each hyperparameter, its default, valid domain and search range.
    Another known name (see `harness.tricks.not_applicable`): name, family, kind, reason and command.

    Raises:
        UserError: the name is unknown.
    """
    row = others().get(name)
    if row is not None:
        return row
    if name in registry.builtin() and name in indexed():
        return dict(indexed()[name])
    return made(name)


def made(name: str) -> dict[str, Any]:
    """The card of a trick, made of its class, which is imported and torch with it; raises as `card`."""
    from harness.tricks.contract import HOOKS, Choice, Search, Trick
    from harness.tricks.stack import excluded

    cls = registry.load(name)
    schema = cls.model_json_schema().get("properties", {})
    parameters = []
    for key, field in cls.model_fields.items():
        bounds = {
            "exclusiveMinimum": "> {}",
            "minimum": ">= {}",
            "exclusiveMaximum": "< {}",
            "maximum": "<= {}",
        }
        shown = schema.get(key, {})
        optional = shown.get("anyOf", [])  # X | None
        shown = next((s for s in optional if s.get("type") != "null"), shown)
        domain = ", ".join(text.format(shown[bound]) for bound, text in bounds.items() if bound in shown)
        if "enum" in shown:
            domain = f"one of {', '.join(map(str, shown['enum']))}"
        search = next((m for m in field.metadata if isinstance(m, Search)), None)
        choice = next((m for m in field.metadata if isinstance(m, Choice)), None)
        parameters.append(
            {
                "name": key,
                "default": field.default,
                "domain": (domain or shown.get("type", "")) + (" or none" if optional else ""),
                "search": [search.low, search.high, search.scale] if search else
                list(choice) if choice else None,
            }
        )  # fmt: skip
    info = cls.info
    return {
        "trick": True,
        **info._asdict(),
        "excludes": excluded(cls.model_construct()),
        "hooks": [h for h in HOOKS if getattr(cls, h) is not getattr(Trick, h)],
        "parameters": parameters,
    }


def others() -> dict[str, dict[str, Any]]:
    """Known names that are no trick here, by name; without those that a trick took."""
    taken = set(registry.names())
    return {row.name: {"trick": False, **row.model_dump()} for row in known_names() if row.name not in taken}


def cards() -> list[dict[str, Any]]:
    """All tricks and then all other known names, each by family and name."""
    listed = [*(card(n) for n in registry.names()), *others().values()]
    return sorted(listed, key=lambda c: (not c["trick"], c["family"], c["name"]))


def text() -> str:
    """What the index must hold: the cards of the bundled tricks now. Imports them all, and torch."""
    return json.dumps({name: made(name) for name in sorted(registry.builtin())}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
