"""What is told on stderr while runs are trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

NAMED = 5
"""Of many files that are left out, so many are named."""

if TYPE_CHECKING:
    from rich.console import Console

    from harness.experiment import Experiment
    from harness.store.schema import Manifest
    from harness.study.plan import Plan
    from harness.training.session import Place


def say_waiting(log: Console, study: str) -> None:
    """That another command has the study."""
    log.print(f"another command works on {study}; waiting until it ends", markup=False, soft_wrap=True)


def say_done(manifest: Manifest, total: int, log: Console) -> None:
    """That nothing is left to train."""
    log.print(f"{manifest.study}: all {total} runs are done already", soft_wrap=True)
    say_notes(manifest, log)


def say_notes(manifest: Manifest, log: Console) -> None:
    """What a reader of the results must know of the design."""
    for note in manifest.notes:
        log.print(f"note: {note}", markup=False, soft_wrap=True)


def left_out(unreadable: Sequence[tuple[str, str]], images: int) -> str:
    """Which files of a data set are in no split, in a sentence.

    Args:
        unreadable: (path, reason) of each.
        images: how many the data set has with them.
    """
    named = "; ".join(f"{path}: {why}" for path, why in unreadable[:NAMED])
    more = f"; and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    return f"{len(unreadable)} of {images} image files cannot be read and are left out ({named}{more})."


def train(
    plan: Plan,
    loaded: Experiment,
    place: Place,
    results: Path,
    workers: int | str | None,
    plugins: Sequence[Path],
    log: Console,
) -> None:
    """Do the missing runs with a progress bar and a line for each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.data.content import content
    from harness.study.preflight import preflight
    from harness.study.runner import run_study

    ready = preflight(plan, place, results, workers, plugins)
    plan, place = ready.plan, ready.place
    total, missing = len(plan.specs), len(plan.missing)
    images = content(loaded.data, place.data_root)
    if images.unreadable:
        plan = plan.noted(left_out(images.unreadable, images.images))
    if missing:
        log.print(
            f"{plan.manifest.study}: {total} runs, {total - missing} done already, {missing} to train", soft_wrap=True
        )
        for note in images.notes:
            log.print(f"note: {note}", markup=False, soft_wrap=True)
        say_notes(plan.manifest, log)
    else:
        say_done(plan.manifest, total, log)
    for line in ready.lines:
        log.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log, transient=True) as progress:
        task = progress.add_task("training", total=total, completed=total - missing)
        for done in run_study(plan, place, results, workers, plugins, ready.refused):
            progress.advance(task)
            if done.reason in ready.refused.values():
                continue  # said above, once for each arm
            what = f"val {done.val_accuracy:.1%}" if done.val_accuracy is not None else done.status
            why = f": {done.reason}" if done.reason else ""
            log.print(
                f"  {done.arm}, seed {done.seed}: {what}{why} ({done.seconds:.1f} s)", markup=False, soft_wrap=True
            )
