"""Options as fields of a request, from which the command line, Python and the stored request follow."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.data.disk import expand
from harness.errors import UserError, did_you_mean

Asking = TypeVar("Asking")


class Flag(NamedTuple):
    """How the command line has an option.

    `names` are its flags, by default the field's name. `reproduces` says whether the command that reproduces the
    numbers has it: where rows lie and what is printed changes none.
    `always` is for one that it has even where it has its default.
    """

    names: tuple[str, ...] = ()
    reproduces: bool = True
    always: bool = False


class Option(NamedTuple):
    """One option: the field, its type, its default, its words and limits, and its flags."""

    field: str
    type: Any
    default: Any
    info: Any
    flag: Flag

    @property
    def flags(self) -> tuple[str, ...]:
        """As the command line has it."""
        return self.flag.names or ("--" + self.field.replace("_", "-"),)


def options_of(request: type[Any]) -> tuple[Option, ...]:
    """The options of a kind of request, which are the annotated fields of a dataclass."""
    hints = typing.get_type_hints(request, include_extras=True)
    out = []
    for f in dataclasses.fields(request):
        type_, *extra = typing.get_args(hints[f.name]) if hasattr(hints[f.name], "__metadata__") else (None,)
        if extra:
            flag = next((e for e in extra if isinstance(e, Flag)), Flag())
            out.append(Option(f.name, type_, f.default, extra[0], flag))
    return tuple(out)


def asked_of(verb: str, request: Any, words: Sequence[str] | None) -> dict[str, Any]:
    """A request as plain values for a declaration: what the command that reproduces it says.

    Args:
        verb: the command.
        request: whose options they are.
        words: what the command is given without a flag: tricks, or a study.
    """
    options: dict[str, Any] = {}
    for option in options_of(type(request)):
        value = getattr(request, option.field)
        if option.flag.reproduces and option.field != "tricks" and (value != option.default or option.flag.always):
            options[option.flags[0].removeprefix("--")] = _plain(value)
    return {"verb": verb, "tricks": list(words or ()), "options": options}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def make_request(kind: type[Asking], values: Mapping[str, Any]) -> Asking:
    """A request of values by name, as Python gives them.

    Raises:
        UserError: there is no such option, or a value is none that it takes; names the option and the rule.
    """
    known = [option.field for option in options_of(kind)]
    for name in values:
        if name not in known:
            raise UserError(f"unknown option '{name}'{did_you_mean(name, known)} Known: {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{first['loc'][0]} = {first['input']!r}: {rule}") from None


def expand_paths(request: Any) -> None:
    """Put the home folder in the place of a leading ~ in all paths of a request, which a shell may have left.

    Raises:
        UserError: there is no home folder.
    """
    for option in options_of(type(request)):
        value = getattr(request, option.field)
        if isinstance(value, Path):
            object.__setattr__(request, option.field, expand(value))
        elif isinstance(value, tuple) and value and isinstance(value[0], Path):
            object.__setattr__(request, option.field, tuple(expand(path) for path in value))
