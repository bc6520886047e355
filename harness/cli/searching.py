"""Searches: `search`, whose options are those of a request."""

from __future__ import annotations

from dataclasses import asdict

import typer

from harness.cli.options import duration, print_json
from harness.cli.requests import command_for
from harness.workflow.events import SearchPlanned, SearchWritten
from harness.workflow.request import SearchRequest


def _search(request: SearchRequest, plan_only: bool, as_json: bool) -> None:
    """Do what is asked, and print what comes of it."""
    from rich.console import Console

    from harness.store.schema import TUNED_BASELINE  # which loads Arrow
    from harness.workflow.searching import search
    from harness.workflow.telling import telling

    judged = True
    for event in telling(search(request, plan_only), Console(stderr=True, highlight=False)):
        if isinstance(event, SearchPlanned):
            planned = event
            if plan_only:
                _print_plan(event, as_json)
        elif isinstance(event, SearchWritten):
            _print_written(event, request, len(planned.plan.notes), as_json)
            arms = [e for a in event.analyses.values() for e in a.effects if e.arm != TUNED_BASELINE]
            judged = not event.analyses or any(effect.n for effect in arms)
    if not judged:
        raise typer.Exit(1)


def _print_written(event: SearchWritten, request: SearchRequest, said: int, as_json: bool) -> None:
    """What the search found. Of its notes, `said` ones were said before it began."""
    from harness.report.text.commands import winner_command
    from harness.tuning.sentences import lines

    record = event.record
    if as_json:
        facts = {"search": record.search, "report": str(event.page)} | record.model_dump(mode="json")
        print_json(facts | {"comparisons": {k: asdict(a) for k, a in event.analyses.items()}})
        return
    for arm in record.arms:
        for line in lines(record, arm, event.analyses, event.runs):
            typer.echo(line)
        won = next((t for t in arm.trials if t.number == arm.winner), None)
        if won is not None:
            typer.echo(f"  use it: {winner_command(record, arm, won)}")
    for note in record.notes[said:]:
        typer.echo(f"note: {note}")
    if event.exported:
        several = " (of the arms with tricks, the best on validation)" if len(record.arms) > 2 else ""
        typer.echo(f"experiment: {request.export}, with the values of {event.exported}{several}")
    elif request.export is not None:
        typer.echo(f"experiment: {request.export} is not written, because no arm with tricks has a winner")
    typer.echo(f"report: {event.page}")


def _print_plan(event: SearchPlanned, as_json: bool) -> None:
    """The space of every arm, the number of trials and runs, and how long that takes where runs are stored."""
    plan, seconds = event.plan, event.seconds
    if as_json:
        arms = [
            {"arm": a.label, "trials": a.trials, "runs": plan.most_runs[a.label]}
            | {"space": {v.name: v.record() for v in a.space}}
            for a in plan.arms
        ]
        notes = [*plan.notes, *filter(None, [event.absent])]
        print_json({"search": plan.search, "arms": arms, "seconds": seconds, "notes": notes})
        return
    typer.echo(
        f"{plan.search}: {len(plan.arms)} arms, {plan.trials} trials each of {len(plan.tuning_seeds)} seeds "
        f"(sampler {plan.sampler}, pruner {plan.pruner}), winners on {len(plan.fresh_seeds)} fresh seeds"
    )
    for arm in plan.arms:
        typer.echo(f"  {arm.label}: {arm.trials} trials, at most {plan.most_runs[arm.label]} runs")
        for value in arm.space:
            typer.echo(f"    {value}")
    for note in plan.notes:
        typer.echo(f"  note: {note}")
    typer.echo(f"to train: at most {sum(plan.most_runs.values())} runs; stored ones are taken over")
    unknown = f"unknown, {event.absent or 'no run of this workload is stored'}"
    typer.echo(f"time: {unknown if seconds is None else duration(seconds)}")


search = command_for(
    SearchRequest,
    _search,
    "Tune the baseline and each arm with the same number of trials, and compare the winners on fresh seeds.",
)
