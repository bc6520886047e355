"""A gate for continuous integration and for whoever tries one idea after another: `gate`."""

from __future__ import annotations

from dataclasses import asdict

import typer

from harness.cli.ends import add_summary
from harness.cli.options import print_json
from harness.cli.requests import command_for
from harness.workflow.request import GateRequest


def _gate(request: GateRequest, plan_only: bool, as_json: bool) -> None:
    """Do what is asked, and print what was decided; exit code 0 accept, 3 reject, 4 undecided."""
    from rich.console import Console

    from harness.workflow.gating import Decided, gate
    from harness.workflow.telling import telling

    for event in telling(gate(request), Console(stderr=True, highlight=False)):
        if isinstance(event, Decided):
            if as_json:
                print_json(asdict(event) | {"exit_code": event.code})
            else:
                typer.echo(event.summary)
            add_summary(event.summary)
            if event.code:
                raise typer.Exit(event.code)


gate = command_for(
    GateRequest,
    _gate,
    "Decide whether a candidate replaces the baseline, with few false acceptances over a whole stream of candidates.",
    argument=("experiment", "Experiment name or .toml path."),
    plan_only=True,
)
