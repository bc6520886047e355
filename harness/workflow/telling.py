"""Events told to a person: lines and a progress bar on stderr, in a terminal or a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.workflow.events import (
    Epoch,
    Event,
    Finished,
    FreshRun,
    Looked,
    OutOfTime,
    Planned,
    SearchEvent,
    SearchStarted,
    Started,
    TrialEnded,
    Waiting,
)

if TYPE_CHECKING:
    from rich.console import Console

    from harness.workflow.checking import Checked
    from harness.workflow.gating import Decided

Told = TypeVar("Told", bound="Event | SearchEvent | Checked | Decided")

BESIDE_THE_BAR = Finished | Epoch | TrialEnded | FreshRun


def telling(events: Iterator[Told], log: Console) -> Iterator[Told]:
    """Pass events on, and tell of them; closing early, or an error in whoever reads, ends the work."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    update: Callable[..., object] = dict
    with closing(events), ExitStack() as shown:  # type: ignore[type-var]
        for event in events:
            if not isinstance(event, BESIDE_THE_BAR):
                shown.close()  # nobody prints beside a bar
            for line, style in lines(event):
                log.print(line, style=style, markup=False, soft_wrap=True)
            if (isinstance(event, Started) and event.missing) or isinstance(event, SearchStarted):
                done = event.ended if isinstance(event, SearchStarted) else event.total - event.missing
                bar = shown.enter_context(Progress(*columns, console=log, transient=True))
                what = "trials" if isinstance(event, SearchStarted) else "training"
                update = partial(bar.update, bar.add_task(what, total=event.total, completed=done))
            elif isinstance(event, Finished):
                update(advance=1)
            elif isinstance(event, Epoch):
                update(description=f"{event.arm}, seed {event.seed}: epoch {event.epoch} of {event.epochs}")
            elif isinstance(event, TrialEnded):
                update(completed=event.ended)
            elif isinstance(event, FreshRun):
                update(description="fresh seeds")
            yield event


def lines(event: Event | SearchEvent | Checked | Decided) -> Iterable[tuple[str, str]]:
    """What is said of an event: lines with their styles."""
    match event:
        case Planned():
            return [(f"warning: {warning}", "yellow") for warning in event.warnings]
        case Waiting():
            return [(f"another command works on {event.study}; waiting until it ends", "")]
        case Started():
            done = event.total - event.missing
            begun = f"{event.total} runs, {done} done already, {event.missing} to train"
            said = begun if event.missing else f"all {event.total} runs are done already"
            notes = [(f"note: {note}", "") for note in event.notes]
            return [(f"{event.study}: {said}", ""), *notes, *((f"warning: {w}", "yellow") for w in event.warnings)]
        case Finished(told=False):
            what = f"val {event.val_accuracy:.1%}" if event.val_accuracy is not None else event.status
            why = f": {event.reason}" if event.reason else ""
            return [(f"  {event.arm}, seed {event.seed}: {what}{why} ({event.seconds:.1f} s)", "")]
        case Looked(undecided=arms) if arms:
            return [(f"after {event.seeds} seeds undecided: {', '.join(arms)}", "")]
        case SearchStarted(plan=plan):
            trials = f"{event.total} trials of {len(plan.tuning_seeds)} seeds"
            said = f"{plan.search}: {len(plan.arms)} arms, {trials}, {event.ended} ended already"
            notes = [(f"note: {note}", "") for note in plan.notes]
            return [(said, ""), *notes, *((f"warning: {w}", "yellow") for w in event.warnings)]
        case TrialEnded():
            return [(f"  {event.line}", "")]
        case OutOfTime():
            return [(f"time is up after {event.timeout}; the same command goes on from here", "")]
    return []
