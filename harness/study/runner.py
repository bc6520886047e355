"""Getting a plan done: finished runs are taken over, missing ones trained, the files merged at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.store.reader import adopt
from harness.store.writer import consolidate, write_manifest
from harness.study.plan import Plan
from harness.study.workers.local import Finished, Job, run_jobs
from harness.training.execute import Place


def run_study(
    plan: Plan, place: Place, results: Path, workers: int, plugins: Sequence[Path] = ()
) -> Iterator[Finished]:
    """Do what is missing of a plan, yielding each run as it ends. The study's folders exist.

    May be stopped at any moment; the same plan then goes on where it stopped.

    Raises:
        OSError: the folder cannot be written any more, for example because the disk is full.
    """
    study_dir = results / plan.manifest.study
    write_manifest(study_dir, plan.manifest)
    elsewhere: dict[Path, set[tuple[str, str]]] = {}
    for key, where in plan.found.items():
        if where != study_dir:
            elsewhere.setdefault(where, set()).add(key)
    for where, keys in elsewhere.items():
        adopt(study_dir, where, keys)
    place = replace(place, packed=workers > 1, weights_dir=study_dir / "weights")
    jobs = [Job(spec, plan.manifest.experiment, study_dir, place) for spec in plan.missing]
    if jobs:
        yield from run_jobs(jobs, workers, plugins)
        consolidate(study_dir)
