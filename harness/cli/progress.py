"""What is told on stderr while runs are trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

    from harness.data.sources import load_source
    from harness.experiment import Arm, spec_of
    from harness.study.runner import run_study
    from harness.training.session import try_out

    total, missing = len(plan.specs), len(plan.missing)
    if missing:
        try_out(spec_of(loaded, Arm(), seed=0), place)
        log.print(
            f"{plan.manifest.study}: {total} runs, {total - missing} done already, {missing} to train", soft_wrap=True
        )
        source = load_source(loaded.data, place.data_root)
        for note in source.notes:
            log.print(f"note: {note}", markup=False, soft_wrap=True)
        for path, why in source.unreadable:
            log.print(f"warning: {path}: {why}, left out", style="yellow", markup=False, soft_wrap=True)
    else:
        say_done(plan.manifest, total, log)
    if missing:
        say_notes(plan.manifest, log)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log, transient=True) as progress:
        task = progress.add_task("training", total=total, completed=total - missing)
        for done in run_study(plan, place, results, workers, plugins):
            progress.advance(task)
            what = f"val {done.val_accuracy:.1%}" if done.val_accuracy is not None else done.status
            why = f": {done.reason}" if done.reason else ""
            log.print(
                f"  {done.arm}, seed {done.seed}: {what}{why} ({done.seconds:.1f} s)", markup=False, soft_wrap=True
            )
