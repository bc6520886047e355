"""A search from its request to its page: trials, winners on fresh seeds, record and export."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.commands.kinds import is_command
from harness.commands.place import CommandPlace
from harness.errors import UserError
from harness.experiment import Experiment, text_of
from harness.store.asked import command_of
from harness.tricks import registry
from harness.workflow.events import (
    FreshRun,
    OutOfTime,
    SearchEvent,
    SearchPlanned,
    SearchStarted,
    SearchWritten,
    TrialEnded,
)
from harness.workflow.place import parse_workers, place_of
from harness.workflow.request import SearchRequest
from harness.workflow.settings import add_parts, load, parse_settings, parse_time

if TYPE_CHECKING:
    from harness.study.places import AnyPlace
    from harness.tuning.plan import SearchPlan


def search(r: SearchRequest, plan_only: bool = False) -> Iterator[SearchEvent]:
    """Do what is asked; the last event is `SearchWritten`. Closing early stops the trials; the same request goes on.

    Args:
        r: what is asked.
        plan_only: say what would be done, and stop.

    Raises:
        UserError: something of the request is not possible.
        OSError: the results folder cannot be written any more.
    """
    for path in r.plugins:
        registry.add_plugin(path)
    if not r.tricks:
        raise UserError("name at least one trick; `harness tricks` lists them")
    if not is_command(r.experiment):
        for arm in r.tricks:
            for trick in arm.split("+"):
                registry.check(trick)
    loaded = load(r.experiment, parse_settings(r.settings, r.experiment))
    if r.export is not None and not isinstance(loaded, Experiment):
        raise UserError(
            f"--export {r.export}: {r.experiment} runs commands; the search says which --set use its winner"
        )
    plugins = add_parts(loaded, r.plugins)
    if r.export is not None and not r.export.absolute().parent.is_dir():
        raise UserError(f"--export {r.export}: no such folder {r.export.parent}")

    # Everything below imports torch, so it comes when the input is known to be good.
    from harness.data.cifar import not_here, unseen
    from harness.names import check_free
    from harness.study.places import images_at
    from harness.training.place import Place
    from harness.training.session import data_info
    from harness.tuning.plan import plan_search
    from harness.tuning.workflow import expected_seconds

    place = place_of(r, loaded)
    workers = parse_workers(r.workers, place) or 1
    if isinstance(workers, str):
        raise UserError(
            f"--workers {r.workers}: a search trains on this machine; start the same command on others, too, with "
            "--storage and a results folder that they share"
        )
    seconds = math.inf if r.timeout is None else parse_time(r.timeout, "--timeout")
    absent, data = "", None
    if isinstance(loaded, Experiment) and isinstance(place, Place):
        absent = not_here(loaded.data, place.data_root) if plan_only else ""
        data = unseen(loaded.data) if absent else data_info(loaded.data, place)
    plan = plan_search(
        loaded, r.tricks, data, trials=r.trials, seeds=r.seeds, fresh=r.fresh, nuisance=r.nuisance,
        objectives=r.objectives, sampler=r.sampler, pruner=r.pruner, name=r.name, command=command_of(r.asked),
        request=r.asked, toml=text_of(r.experiment), images=images_at(place, loaded),
        place=place if isinstance(place, CommandPlace) else None,
    )  # fmt: skip
    r = replace(r, plugins=plugins)
    check_free(r.results, plan.search, "search")
    if plan_only:
        yield SearchPlanned(plan, expected_seconds(plan, place, r.results, workers), absent)
        return
    yield SearchPlanned(plan)
    yield from _trials(r, plan, place, workers, time.monotonic() + seconds)
    yield _written(r, plan)


def _trials(
    r: SearchRequest, plan: SearchPlan, place: AnyPlace, workers: int, deadline: float
) -> Iterator[SearchEvent]:
    """Do the trials and, when every arm has had its budget, the comparisons."""
    from harness.tuning.sentences import trial_line
    from harness.tuning.workflow import open_search

    with open_search(plan, place, r.results, r.storage, workers, r.plugins) as engine:
        total = sum(arm.trials for arm in plan.arms)
        yield SearchStarted(engine.plan, engine.ended, total, engine.warnings)
        for done in engine.trials(deadline):
            yield TrialEnded(trial_line(done.arm, done.trial), done.ended)
        if not engine.complete:
            engine.leave(f"It ended after {r.timeout}, before every arm had its {plan.trials} trials.")
            yield OutOfTime(r.timeout or "")
            return
        for _, runs in engine.compare():
            yield FreshRun(runs)


def _written(r: SearchRequest, plan: SearchPlan) -> SearchWritten:
    """Write the page and the export of a search's record."""
    from harness.report.pages.search import write_search
    from harness.store.reader import read_search
    from harness.tuning.export_winner import best_arm, export
    from harness.tuning.sentences import analyses, fresh_runs

    folder = r.results / plan.search
    record = read_search(folder)
    page = write_search(folder, r.reports)
    runs = fresh_runs(folder, record)
    best = best_arm(record) if r.export is not None else None
    if r.export is not None and best is not None:
        export(plan, *best, r.export)
    return SearchWritten(folder, page, record, runs, analyses(record, runs), best[0].label if best else "")
