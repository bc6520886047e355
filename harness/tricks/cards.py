"""Trick cards as plain data, for the command line and the site."""

from __future__ import annotations

from typing import Any

from harness.tricks import registry


def card(name: str) -> dict[str, Any]:
    """A trick's `Info` and, for each hyperparameter, its default, valid domain and search range."""
    from harness.tricks.contract import HOOKS, Choice, Search, Trick

    cls = registry.load(name)
    schema = cls.model_json_schema().get("properties", {})
    parameters = []
    for key, field in cls.model_fields.items():
        bounds = {
            "exclusiveMinimum": "> {}",
            "minimum": ">= {}",
            "exclusiveMaximum": "< {}",
            "maximum": "<= {}",
            "enum": "one of {}",
        }
        shown = schema.get(key, {})
        domain = ", ".join(text.format(shown[bound]) for bound, text in bounds.items() if bound in shown)
        search = next((m for m in field.metadata if isinstance(m, Search)), None)
        choice = next((m for m in field.metadata if isinstance(m, Choice)), None)
        parameters.append(
            {
                "name": key,
                "default": field.default,
                "domain": domain or shown.get("type", ""),
                "search": [search.low, search.high, "log" if search.log else "linear"] if search else
                list(choice) if choice else None,
            }
        )  # fmt: skip
    info = cls.info
    return {
        **info._asdict(),
        "excludes": dict(info.excludes),
        "hooks": [h for h in HOOKS if getattr(cls, h) is not getattr(Trick, h)],
        "parameters": parameters,
    }


def cards() -> list[dict[str, Any]]:
    """All tricks, by family and name."""
    return sorted((card(n) for n in registry.names()), key=lambda c: (c["family"], c["name"]))
