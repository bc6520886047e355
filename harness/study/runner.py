"""Getting a plan done: finished runs are taken over, missing ones trained, the files merged at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UserError
from harness.store.reader import adopt, read_manifest
from harness.store.schema import Manifest
from harness.store.writer import consolidate, write_manifest
from harness.study.plan import Plan
from harness.study.workers.local import Finished, Job, lost, run_jobs, run_packed
from harness.training.session import Place


def other_settings(study_dir: Path, manifest: Manifest) -> str:
    """The command of the study that lies in the folder if it trained other runs for an arm and seed of this one."""
    try:
        before = read_manifest(study_dir)
    except UserError:
        return ""
    was = {(arm.label, seed): run_id for arm in before.arms for seed, run_id in arm.run_ids.items()}
    now = {(arm.label, seed): run_id for arm in manifest.arms for seed, run_id in arm.run_ids.items()}
    return before.command if any(was[key] != now[key] for key in was.keys() & now.keys()) else ""


def run_study(
    plan: Plan,
    place: Place,
    results: Path,
    workers: int | str | None,
    plugins: Sequence[Path] = (),
    refused: Mapping[str, str] | None = None,
) -> Iterator[Finished]:
    """Do what is missing of a plan, yielding each run as it ends. The study's folders exist.

    `workers` is a number of local processes, None for as many as one CUDA device holds, or the address of a Ray
    cluster ("local" or "ray://..."). Runs that are `refused`, by id and with a reason, are stored as failed.

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
    place = replace(
        place,
        packed=workers not in (1, None),
        weights_dir=study_dir / "weights",
        checkpoint_dir=study_dir / "checkpoints",
    )
    missing = [Job(spec, plan.manifest.experiment, study_dir, place) for spec in plan.missing]
    refused = refused or {}
    for job in missing:
        if job.spec.run_id in refused:
            yield lost(job, refused[job.spec.run_id])
    jobs = [job for job in missing if job.spec.run_id not in refused]
    if jobs:
        if workers is None:
            yield from run_packed(jobs, plugins)
        elif isinstance(workers, int):
            yield from run_jobs(jobs, workers, plugins)
        else:
            from harness.study.workers.ray import run_jobs_on_ray  # an optional dependency

            yield from run_jobs_on_ray(jobs, workers, plugins, 1.0 if place.device.startswith("cuda") else 0.0)
    if missing:
        consolidate(study_dir)
