"""Searches: `search`, from its plan to its page."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    AsJson,
    CudaGraphs,
    DataRoot,
    Device,
    ExperimentName,
    Plugins,
    Reports,
    Results,
    Settings,
    Threads,
    duration,
    print_json,
)
from harness.errors import UserError
from harness.experiment import MOST_SEEDS, text_of
from harness.workflow.place import make_place, parse_workers
from harness.workflow.settings import load, parse_settings, parse_time

if TYPE_CHECKING:
    from rich.console import Console

    from harness.search.plan import SearchPlan
    from harness.training.session import Place


@dataclass(frozen=True)
class SearchOptions:
    """The parameters of `search`."""

    tricks: list[str] | None
    experiment: str
    trials: int
    seeds: int
    fresh: int | None
    nuisance: str | None
    sampler: str
    pruner: str | None
    objectives: str
    storage: str | None
    workers: str | None
    timeout: str | None
    settings: list[str] | None
    export: Path | None
    device: str
    cuda_graphs: bool
    threads: int
    results: Path
    reports: Path
    data_root: Path | None
    name: str | None
    plugins: list[Path] | None
    as_json: bool
    dry_run: bool


def search(
    tricks: Annotated[
        list[str] | None, typer.Argument(help="Trick names; join names with + to make one arm of them.")
    ] = None,
    experiment: ExperimentName = "digits",
    trials: Annotated[int, typer.Option(min=1, max=100_000, help="Trials of each arm, the baseline included.")] = 30,
    seeds: Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="Seeds that each trial is trained on.")] = 5,
    fresh: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_SEEDS, help="Further seeds, for the winners; default: as many as the experiment has."
        ),
    ] = None,
    nuisance: Annotated[
        str | None, typer.Option(help="Numbers of the recipe to search, too: lr,weight_decay by default; or none.")
    ] = None,
    sampler: Annotated[str, typer.Option(help="tpe, gp, random, grid or halton.")] = "tpe",
    pruner: Annotated[
        str | None, typer.Option(help="wilcoxon stops a trial that loses seed by seed against the best one; or none.")
    ] = None,
    objectives: Annotated[
        str, typer.Option(help="accuracy, or several for a front: accuracy,seconds or accuracy,memory.")
    ] = "accuracy",
    storage: Annotated[
        str | None,
        typer.Option(help="journal:PATH, or an Optuna URL such as postgresql+psycopg2://...; default: a SQLite file."),
    ] = None,
    workers: Annotated[str | None, typer.Option(help="Trials at a time (default: CPU cores, or 1 on a GPU).")] = None,
    timeout: Annotated[str | None, typer.Option(help="No trial begins after this time, for example 20m.")] = None,
    settings: Settings = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the winner (of several arms, the best on validation) as an experiment.")
    ] = None,
    device: Device = "auto",
    cuda_graphs: CudaGraphs = False,
    threads: Threads = 1,
    results: Results = Path("results"),
    reports: Reports = Path("reports"),
    data_root: DataRoot = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the search; made from experiment and tricks by default.")
    ] = None,
    plugins: Plugins = None,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be searched, and stop.")] = False,
) -> None:
    """Tune the baseline and each arm with the same number of trials, and compare the winners on fresh seeds."""
    _search(SearchOptions(**locals()))


def _search(o: SearchOptions) -> None:
    """Plan, do and report a search."""
    from rich.console import Console

    from harness.tricks import registry

    for path in o.plugins or []:
        registry.add_plugin(path)
    if not o.tricks:
        raise UserError("name at least one trick; `harness tricks` lists them")
    for arm in o.tricks:
        for trick in arm.split("+"):
            registry.check(trick)
    loaded = load(o.experiment, parse_settings(o.settings or []))
    if o.export is not None and not o.export.absolute().parent.is_dir():
        raise UserError(f"--export {o.export}: no such folder {o.export.parent}")

    # Everything below imports torch, so it comes when the input is known to be good.
    from harness.data.cifar import not_here, unseen
    from harness.data.content import content
    from harness.search.plan import plan_search
    from harness.study.plan import check_free
    from harness.training.session import data_info

    log = Console(stderr=True, highlight=False)
    place = make_place(o.device, o.threads, o.data_root, o.cuda_graphs)
    workers = parse_workers(o.workers, place) or 1
    if isinstance(workers, str):
        raise UserError(
            f"--workers {o.workers}: a search trains on this machine; start the same command on others, too, with "
            "--storage and a results folder that they share"
        )
    seconds = math.inf if o.timeout is None else parse_time(o.timeout, "--timeout")
    absent = not_here(loaded.data, place.data_root) if o.dry_run else ""
    data = unseen(loaded.data) if absent else data_info(loaded.data, place)
    plan = plan_search(
        loaded, o.tricks, data, trials=o.trials, seeds=o.seeds, fresh=o.fresh, nuisance=o.nuisance,
        objectives=o.objectives, sampler=o.sampler, pruner=o.pruner, name=o.name, command=_search_command(o),
        toml=text_of(o.experiment), images=content(loaded.data, place.data_root).digest,
    )  # fmt: skip
    check_free(o.results, plan.search, "search")
    if o.dry_run:
        _print_search_plan(plan, place, workers, o, absent)
        return
    if not _do_search(plan, place, workers, seconds, o, log):
        log.print(f"time is up after {o.timeout}; the same command goes on from here", soft_wrap=True)
    _report_search(plan, o)


def _do_search(plan: SearchPlan, place: Place, workers: int, seconds: float, o: SearchOptions, log: Console) -> bool:
    """Do the trials and, when every arm has had its budget, the comparisons; returns whether it had."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.search.sentences import trial_line
    from harness.search.workflow import open_search

    deadline = time.monotonic() + seconds
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        open_search(plan, place, o.results, o.storage, workers, o.plugins or []) as engine,
        Progress(*columns, console=log, transient=True) as progress,
    ):
        ended, total = engine.ended, sum(arm.trials for arm in plan.arms)
        log.print(
            f"{plan.search}: {len(plan.arms)} arms, {total} trials of {len(plan.tuning_seeds)} seeds, "
            f"{ended} ended already", soft_wrap=True,
        )  # fmt: skip
        for note in engine.plan.notes:
            log.print(f"note: {note}", markup=False, soft_wrap=True)
        for line in engine.warnings:
            log.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)
        task = progress.add_task("trials", total=total, completed=ended)
        for done in engine.trials(deadline):
            progress.update(task, completed=done.ended)
            log.print(f"  {trial_line(done.arm, done.trial)}", markup=False, soft_wrap=True)
        if not engine.complete:
            engine.leave(f"It ended after {o.timeout}, before every arm had its {plan.trials} trials.")
            return False
        log.print("every arm has had its trials; the winners go on to fresh seeds", soft_wrap=True)
        task = progress.add_task("fresh seeds", total=None)
        for _, runs in engine.compare():
            progress.update(task, total=runs, advance=1)
        return True


def _report_search(plan: SearchPlan, o: SearchOptions) -> None:
    """Write the page and the export of a search's record, and print what it found."""
    from harness.report.pages.search import write_search
    from harness.report.text.commands import winner_command
    from harness.search.export_winner import best_arm, export
    from harness.search.sentences import analyses, fresh_runs, lines
    from harness.store.reader import read_search

    folder = o.results / plan.search
    record = read_search(folder)
    page = write_search(folder, o.reports)
    runs = fresh_runs(folder, record)
    found = analyses(record, runs)
    best = best_arm(record) if o.export is not None else None
    if o.export is not None and best is not None:
        export(plan, *best, o.export)
    if o.as_json:
        facts = {"search": record.search, "report": str(page)} | record.model_dump(mode="json")
        print_json(facts | {"comparisons": {k: asdict(a) for k, a in found.items()}})
        return
    for arm in record.arms:
        for line in lines(record, arm, found, runs):
            typer.echo(line)
        won = next((t for t in arm.trials if t.number == arm.winner), None)
        if won is not None:
            typer.echo(f"  use it: {winner_command(record, arm, won)}")
    for note in record.notes[len(plan.notes) :]:  # the others were said before the search
        typer.echo(f"note: {note}")
    if best is not None:
        several = " (of the arms with tricks, the best on validation)" if len(record.arms) > 2 else ""
        typer.echo(f"experiment: {o.export}, with the values of {best[0].label}{several}")
    elif o.export is not None:
        typer.echo(f"experiment: {o.export} is not written, because no arm with tricks has a winner")
    typer.echo(f"report: {page}")


def _search_command(o: SearchOptions) -> str:
    """What reproduces the search: the options that change its numbers, and no others."""
    words = ["harness", "search", *(o.tricks or []), "--experiment", o.experiment]
    for flag, value in (
        ("--trials", o.trials), ("--seeds", o.seeds), ("--fresh", o.fresh), ("--nuisance", o.nuisance),
        ("--sampler", o.sampler), ("--pruner", o.pruner), ("--objectives", o.objectives),
        ("--data-root", o.data_root), ("--name", o.name), ("--device", None if o.device == "auto" else o.device),
    ):  # fmt: skip
        words += [flag, str(value)] if value is not None else []
    words += [word for text in o.settings or [] for word in ("--set", text)]
    words += ["--threads", str(o.threads)] if o.threads != 1 else []
    words += ["--cuda-graphs"] if o.cuda_graphs else []
    words += [word for path in o.plugins or [] for word in ("--plugin", str(path))]
    return shlex.join(words)


def _print_search_plan(plan: SearchPlan, place: Place, workers: int, o: SearchOptions, absent: str) -> None:
    """The space of every arm, the number of trials and runs, and how long that takes where runs are stored."""
    from harness.search.workflow import expected_seconds

    seconds = expected_seconds(plan, place, o.results, workers)
    if o.as_json:
        arms = [
            {"arm": a.label, "trials": a.trials, "runs": plan.most_runs[a.label]}
            | {"space": {v.name: v.record() for v in a.space}}
            for a in plan.arms
        ]
        notes = [*plan.notes, *filter(None, [absent])]
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
    unknown = f"unknown, {absent or 'no run of this workload is stored'}"
    typer.echo(f"time: {unknown if seconds is None else duration(seconds)}")
