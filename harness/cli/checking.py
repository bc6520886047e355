"""What is looked at before a study costs anything: `check`, whose options are those of a request."""

from __future__ import annotations

from dataclasses import asdict

import typer

from harness.cli.options import print_json
from harness.cli.requests import command_for
from harness.workflow.request import CheckRequest

MARKS = {"ok": "ok  ", "note": "note", "problem": "FAIL"}


def _check(request: CheckRequest, plan_only: bool, as_json: bool) -> None:
    """Do what is asked, and print what was found; exit code 1 where something is a problem."""
    from rich.console import Console

    from harness.workflow.checking import Checked, check
    from harness.workflow.telling import telling

    for event in telling(check(request), Console(stderr=True, highlight=False)):
        if isinstance(event, Checked):
            if as_json:
                print_json(asdict(event) | {"good": event.good})
            else:
                for fact in event.facts:
                    typer.echo(f"{MARKS[fact.state]}  {fact.about}: {fact.said}")
            if not event.good:
                raise typer.Exit(1)


check = command_for(
    CheckRequest,
    _check,
    "Run a few short runs first: do they repeat, is the seed used, which tricks change nothing, how long do they take?",
    argument=("experiment", "Experiment name or .toml path."),
    plan_only=True,
)
