"""Studies: `ablate`, its variants `plan` and `run`, and `replicate`, whose options are those of a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from harness.cli.ends import ENDS, Ends
from harness.cli.options import print_json
from harness.cli.printing import print_comparison, print_findings, print_plan, print_replication
from harness.cli.requests import command_for
from harness.workflow.events import Compared, Event, Planned, Written
from harness.workflow.request import ReplicationRequest, Request

if TYPE_CHECKING:
    from harness.report.load import Loaded


def _study(request: Request, plan_only: bool, as_json: bool, **ends: Any) -> None:
    """Do what is asked, and print what comes of it."""
    from harness.workflow.ablation import ablate

    _show(ablate(request, plan_only), plan_only, as_json, Ends(**ends), request.cross is not None)


def _replicate(request: ReplicationRequest, plan_only: bool, as_json: bool, **ends: Any) -> None:
    """The same of a replication."""
    from harness.workflow.replicating import replicate

    _show(replicate(request, plan_only), plan_only, as_json, Ends(**ends))


def _show(events: Iterator[Event], plan_only: bool, as_json: bool, ends: Ends, several: bool = False) -> None:
    """Print what comes of studies while it happens; exit code 1 if no arm of any study could be judged."""
    from rich.console import Console

    from harness.workflow.ablation import facts_of
    from harness.workflow.telling import telling

    studies: list[dict[str, Any]] = []
    written: list[Loaded] = []
    document: Any = None
    judged = plan_only
    for event in telling(events, Console(stderr=True, highlight=False)):
        if isinstance(event, Planned) and event.ahead is not None:
            studies.append(_planned(event))
            if not as_json:
                print_plan(event.plan, event.ahead)
        elif isinstance(event, Written):
            studies.append(facts_of(event))
            written.append(event.loaded)
            judged = judged or any(effect.n for effect in event.loaded.analysis.effects)
            if not as_json:
                print_findings(event.loaded, event.loaded.findings())
                typer.echo(f"report: {event.page}")
                print_replication(event.loaded)
        elif isinstance(event, Compared):
            document = asdict(event.comparison) | {"conditions": studies}
            if not as_json:
                print_comparison(event.comparison)
    if as_json:
        print_json(document or (studies if several else studies[0]))
    ends.finish(written)
    if not judged:
        raise typer.Exit(1)


def _planned(event: Planned) -> dict[str, Any]:
    """A plan as a JSON document."""
    manifest, ahead = event.plan.manifest, event.ahead
    assert ahead is not None
    arms = [{"arm": a.label, "tricks": a.tricks, "skipped": a.skipped} for a in manifest.arms]
    return {"study": manifest.study, "arms": arms, "warnings": event.warnings, **asdict(ahead)}


ablate = command_for(
    Request,
    _study,
    "Train the baseline and the baseline plus each trick over paired seeds, and report the difference.",
    more=ENDS,
)
plan = command_for(
    Request, _study, "Say what a study would run, how long it takes and what it could find.", plan_only=True
)
run = command_for(
    Request,
    _study,
    "Run the study that an experiment file declares under study.",
    argument=("experiment", "Experiment name or .toml path."),
    more=ENDS,
    tricks=None,
    declared=True,
)
replicate = command_for(
    ReplicationRequest,
    _replicate,
    "Train what a study found again, on seeds that no look has used, and say what held.",
    argument=("study", "Study in the results folder."),
    more=ENDS,
)
