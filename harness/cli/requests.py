"""Commands whose options are the fields of a request (`harness.workflow.options`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson
from harness.workflow.options import Option, options_of

TYPES: dict[Any, Any] = {
    tuple[str, ...]: list[str] | None,
    tuple[Path, ...]: list[Path] | None,
    tuple[str, ...] | None: list[str] | None,
    str | int | None: str | None,
}
"""What the command line makes of a type; others are as they are."""

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")]


def command_for(
    kind: type[Any],
    do: Callable[..., None],
    text: str,
    argument: tuple[str, str] = ("", ""),
    plan_only: bool = False,
    more: Mapping[str, Any] = MappingProxyType({}),
    **fixed: Any,
) -> Callable[..., None]:
    """A command that calls `do` with a request, whether only to plan it, and whether to print JSON.

    Args:
        kind: of request; its `tricks` are the arguments of the command.
        do: what the command does.
        text: what its help says.
        argument: the name and the help of an option that is an argument in its place.
        plan_only: the command only plans, so it has no option for it.
        more: further options of the command line alone, by name, which `do` takes; None where they are not given.
        fixed: fields that have a value, and are no options.
    """
    options = [o for o in options_of(kind) if o.field not in fixed]
    parameters = [_parameter(o, argument[1] if o.field == argument[0] else "") for o in options]
    own = {"as_json": AsJson} | ({} if plan_only else {"dry_run": DryRun})
    parameters += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=a) for n, a in own.items()
    ]
    parameters += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=a) for n, a in more.items()
    ]
    repeated = {option.field for option in options if option.default == ()}

    def command(as_json: bool, dry_run: bool = False, **values: Any) -> None:
        told = {name: values.pop(name) for name in more}
        many = {name: tuple(values[name] or ()) for name in repeated}
        do(kind(**values | many | fixed), dry_run or plan_only, as_json, **told)

    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    command.__doc__ = text
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter(option: Option, argument: str) -> inspect.Parameter:
    """An option as a parameter that the parser of the command line reads."""
    type_: Any = TYPES.get(option.type, option.type)
    limits = {type(m).__name__.lower(): m for m in option.info.metadata}
    ends: dict[str, Any] = {"min": getattr(limits.get("ge"), "ge", None), "max": getattr(limits.get("le"), "le", None)}
    default: Any = None if option.default == () else option.default
    annotation: Any
    if argument:
        annotation, default = Annotated[type_, typer.Argument(help=argument)], inspect.Parameter.empty
    elif option.field == "tricks":
        annotation = Annotated[type_, typer.Argument(help=option.info.description)]
    else:
        annotation = Annotated[type_, typer.Option(*option.flags, help=option.info.description, **ends)]
    return inspect.Parameter(option.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
