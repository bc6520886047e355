"""From templates to the words of a command: placeholders, flags and what must not be shown of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from harness.errors import UserError, did_you_mean

Style = Literal["space", "equals", "hydra", "absl"]

FLAGS = "flags"
AT_RUN = ("python", "seed", "out", "data", "gpu", "gpus", "port", "checkpoint", "arm", "run_id")
"""Placeholders that have a value when a run starts, beside the hyperparameters of its tricks."""

HIDDEN = "(hidden)"
_SECRET = frozenset({"token", "secret", "password", "passwd", "credential", "credentials", "apikey"})
_KEYS = frozenset({"api", "access", "private", "auth", "ssh", "encryption"})

_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


def pieces(template: str, where: str) -> Iterator[tuple[str, str]]:
    """The parts of a template in order, each (text, "") or ("", name of a placeholder).

    Raises:
        UserError: a single brace; `where` begins the sentence.
    """
    at = 0
    for found in _PIECE.finditer(template):
        if found.start() > at:
            yield template[at : found.start()], ""
        at = found.end()
        if found[0] in ("{{", "}}"):
            yield found[0][0], ""
        elif found[1]:
            yield "", found[1]
        else:
            raise UserError(f"{where}: '{template}' has a single {found[0]}; write {{{{ and }}}} for braces")
    if at < len(template):
        yield template[at:], ""


def names_in(template: str, where: str) -> list[str]:
    """The placeholders of a template."""
    return [name for _, name in pieces(template, where) if name]


def fill(template: str, values: Mapping[str, Any], where: str, later: Collection[str] = ()) -> str:
    """A template with its placeholders replaced in one pass: what a value holds is never replaced again.

    Args:
        template: text with {name}; {{ and }} are braces.
        values: by name.
        where: begins errors.
        later: names that stay placeholders; the result is then a template again.

    Raises:
        UserError: an unknown placeholder, or a single brace.
    """
    out = []
    for text, name in pieces(template, where):
        if name in later and name:
            out.append(f"{{{name}}}")
            continue
        if name and name not in values:
            known = [*values, *later]
            raise UserError(
                f"{where}: unknown placeholder {{{name}}}{did_you_mean(name, known)} Known: {', '.join(known)}"
            )
        shown = word(values[name]) if name else text
        out.append(shown.replace("{", "{{").replace("}", "}}") if later else shown)
    return "".join(out)


def fill_value(value: Any, values: Mapping[str, Any], where: str, later: Collection[str]) -> Any:
    """The value of a flag with its placeholders replaced; "{alpha}" alone has the type of alpha."""
    if isinstance(value, list | tuple):
        return [fill_value(v, values, where, later) for v in value]
    if not isinstance(value, str):
        return value
    parts = list(pieces(value, where))
    if len(parts) == 1 and parts[0][1] in values and not isinstance(values[parts[0][1]], str):
        return values[parts[0][1]]
    return fill(value, values, where, later)


def word(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def flag_words(flags: Mapping[str, Any], style: Style) -> list[str]:
    """Flags as the words of a command line, in their order.

    "space" is `--k v`, "equals" `--k=v`, "hydra" `k=v`, "absl" `--k=v` with `--nok`. True is a bare flag and False is
    none, but for hydra, where they are values, and for absl, where False is `--nok`. A list is several words, for
    "equals" and "absl" the flag again for each, and for hydra one list.
    """
    out: list[str] = []
    for key, value in flags.items():
        if style == "hydra":
            shown = f"[{','.join(map(word, value))}]" if isinstance(value, list | tuple) else word(value)
            out.append(f"{key}={shown}")
        elif value is True:
            out.append(key)
        elif value is False:
            out += [_negated(key)] if style == "absl" else []
        elif style == "space":
            out += [key, *(map(word, value) if isinstance(value, list | tuple) else [word(value)])]
        else:
            out += [f"{key}={word(v)}" for v in (value if isinstance(value, list | tuple) else [value])]
    return out


def _negated(key: str) -> str:
    name = key.lstrip("-")
    return f"{key[: len(key) - len(name)]}no{name}"


def is_secret(name: str) -> bool:
    """Whether the value of a variable or flag of this name must not be stored: tokens, passwords, API keys."""
    parts = [p for p in re.split(r"[^a-z0-9]+", name.lower()) if p]
    keys = any(a in _KEYS and b in ("key", "keys") for a, b in pairwise(parts))
    return keys or bool(_SECRET & set(parts))


def hidden(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command with the values of secret flags hidden: `--hub_token X` and `--hub_token=X`."""
    out: list[str] = []
    after_secret = False
    for text in words:
        name, equals, _ = text.partition("=")
        flag = name.startswith("-") or bool(equals)
        if after_secret and not text.startswith("-"):
            out.append(HIDDEN)
        else:
            out.append(f"{name}={HIDDEN}" if equals and flag and is_secret(name) else text)
        after_secret = name.startswith("-") and not equals and is_secret(name)
    return tuple(out)


def hidden_values(env: Mapping[str, str]) -> dict[str, str]:
    """Variables with the values of secret ones hidden."""
    return {name: HIDDEN if is_secret(name) else value for name, value in env.items()}
