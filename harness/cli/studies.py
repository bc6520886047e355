"""Studies: `ablate` and its variants `plan` and `run`, whose options are those of a request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.options import AsJson, print_json
from harness.cli.printing import print_comparison, print_findings, print_plan
from harness.workflow.events import Compared, Planned, Written
from harness.workflow.request import OPTIONS, Option, Request

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop: `harness plan`.")]

OldCheck = Annotated[bool, typer.Option("--check", hidden=True)]


def _study(request: Request, plan_only: bool, as_json: bool) -> None:
    """Do what is asked, and print what comes of it; exit code 1 if no arm of any study could be judged."""
    from rich.console import Console

    from harness.workflow.ablation import ablate, facts_of
    from harness.workflow.telling import telling

    studies: list[dict[str, Any]] = []
    document: Any = None
    judged = plan_only
    for event in telling(ablate(request, plan_only), Console(stderr=True, highlight=False)):
        if isinstance(event, Planned) and event.ahead is not None:
            studies.append(_planned(event))
            if not as_json:
                print_plan(event.plan, event.ahead)
        elif isinstance(event, Written):
            studies.append(facts_of(event))
            judged = judged or any(effect.n for effect in event.loaded.analysis.effects)
            if not as_json:
                print_findings(event.loaded, event.loaded.findings())
                typer.echo(f"report: {event.page}")
        elif isinstance(event, Compared):
            document = asdict(event.comparison) | {"conditions": studies}
            if not as_json:
                print_comparison(event.comparison)
    if as_json:
        print_json(document or (studies if request.cross is not None else studies[0]))
    if not judged:
        raise typer.Exit(1)


def _planned(event: Planned) -> dict[str, Any]:
    """A plan as a JSON document."""
    manifest, ahead = event.plan.manifest, event.ahead
    assert ahead is not None
    arms = [{"arm": a.label, "tricks": a.tricks, "skipped": a.skipped} for a in manifest.arms]
    return {"study": manifest.study, "arms": arms, "warnings": event.warnings, **asdict(ahead)}


def _command(text: str, **fixed: Any) -> Callable[..., None]:
    """A command with the options of a request, but for those that are fixed."""
    left = [o for o in OPTIONS if o.field not in fixed]
    parameters = [_parameter(o, declared=fixed.get("declared", False)) for o in left]
    own = {"as_json": AsJson, "check": OldCheck} | ({} if "plan_only" in fixed else {"dry_run": DryRun})
    parameters += [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=a) for n, a in own.items()
    ]

    def command(as_json: bool, check: bool, dry_run: bool = False, **values: Any) -> None:
        if check:
            typer.echo("note: --check is called --verify now", err=True)
            values["verify"] = True
        known = {name: value for name, value in fixed.items() if name != "plan_only"}
        many = {name: tuple(values[name] or ()) for name in values if name in LISTS}
        request: Any = Request  # whose fields are the parameters
        _study(request(**values | many | known), dry_run or fixed.get("plan_only", False), as_json)

    parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)
    command.__doc__ = text
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


LISTS = {option.field for option in OPTIONS if option.default == ()}
"""Options that may be repeated; the parser has None where there is none."""

TYPES: dict[Any, Any] = {
    tuple[str, ...]: list[str] | None,
    tuple[Path, ...]: list[Path] | None,
    tuple[str, ...] | None: list[str] | None,
    str | int | None: str | None,
}
"""What the command line makes of a type; others are as they are."""


def _parameter(option: Option, declared: bool) -> inspect.Parameter:
    """An option of a request as a parameter that the parser of the command line reads."""
    kind: Any = TYPES.get(option.type, option.type)
    words = option.info.description
    limits = {type(m).__name__.lower(): m for m in option.info.metadata}
    ends: dict[str, Any] = {"min": getattr(limits.get("ge"), "ge", None), "max": getattr(limits.get("le"), "le", None)}
    default = None if option.default == () else option.default
    annotation: Any
    if option.field == "tricks":
        annotation = Annotated[kind, typer.Argument(help=words)]
    elif option.field == "experiment" and declared:
        annotation = Annotated[kind, typer.Argument(help="Experiment name or .toml path.")]
        default = inspect.Parameter.empty
    else:
        names = option.flag.names or ("--" + option.field.replace("_", "-"),)
        annotation = Annotated[kind, typer.Option(*names, help=words, **ends)]
    return inspect.Parameter(option.field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


ablate = _command("Train the baseline and the baseline plus each trick over paired seeds, and report the difference.")
plan = _command("Say what a study would run, how long it takes and what it could find.", plan_only=True)
run = _command("Run the study that an experiment file declares under study.", tricks=None, declared=True)
