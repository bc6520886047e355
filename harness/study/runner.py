"""Getting a plan done: finished runs are taken over, missing ones trained, the files merged at the end."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.commands.execute import DIFFS, LOGS
from harness.commands.place import CommandPlace
from harness.commands.process import tail
from harness.errors import UserError
from harness.experiment import BASELINE
from harness.identity import SHOWN, differences
from harness.store.folders import study_folders
from harness.store.merge import adopt, consolidate
from harness.store.reader import read_manifest
from harness.store.schema import Manifest
from harness.store.writer import atomically, file_name, write_manifest
from harness.study.places import AnyPlace, at_home
from harness.study.plan import Plan
from harness.study.stages import FOLDER
from harness.study.workers.job import EpochEnd, Finished, Job
from harness.study.workers.local import run_jobs, run_packed
from harness.study.workers.storing import lost


def other_question(study_dir: Path, manifest: Manifest) -> list[str]:
    """In what the study that lies in a folder differs from this one; nothing if there is none.

    More seeds after the same first one and more arms are the same question, and so is the same one to other code or
    another machine.
    """
    try:
        before = read_manifest(study_dir)
    except UserError:
        return []
    old, new = _question(before), _question(manifest)
    gone = sorted({*old["arms"]} - {*new["arms"]})
    if gone:
        return [f"it has the arms {', '.join(sorted({*old['arms']} - {BASELINE}))}"]
    old["arms"], new["arms"] = ({k: v for k, v in q["arms"].items() if k in old["arms"]} for q in (old, new))
    for part in ("images", "settings"):  # which earlier versions did not record
        if not old[part]:
            old[part] = new[part]
    found = differences(old, new)
    was = {(arm.label, seed): run_id for arm in before.arms for seed, run_id in arm.run_ids.items()}
    now = {(arm.label, seed): run_id for arm in manifest.arms for seed, run_id in arm.run_ids.items()}
    if not found and any(was[key] != now[key] for key in was.keys() & now.keys()):
        return [f"its command was {before.command}"]
    return found


def _question(manifest: Manifest) -> dict[str, Any]:
    return {
        "arms": {arm.label: arm.tricks for arm in manifest.arms},
        "design": manifest.design,
        "metric": manifest.metric,
        "margin": manifest.margin,
        "alpha": manifest.alpha,
        "images": manifest.data[:SHOWN],
        "settings": manifest.settings,
        "first seed": next(iter(manifest.seeds), 0),
    }


def taken(study_dir: Path, plan: Plan) -> Plan:
    """The plan of a study with what was done before to its runs: the looks at them, and the probes of its arms.

    A look counts in whatever study of the results folder it was taken, if that shares runs with this one: another
    margin or level is no other experiment. Looks at a study of an earlier version were at the seeds that it has.
    Planned looks keep their level only where no other look was taken.

    Args:
        study_dir: the study's own folder.
        plan: of the study.
    """
    m = plan.manifest
    mine = {run_id for arm in m.arms if arm.label in m.family for run_id in arm.run_ids.values()}
    looks: set[int] = set()
    unplanned, probes = False, m.probes
    for folder in dict.fromkeys((study_dir, *study_folders(study_dir.parent, published=False))):
        try:
            before = read_manifest(folder)
        except UserError:
            continue
        own = folder.name == study_dir.name
        if not own and (before.fingerprint != m.fingerprint or mine.isdisjoint(before.arm_runs)):
            continue
        found = before.looks if "looks" in before.model_fields_set else (len(before.seeds),)
        looks |= set(found)
        unplanned |= bool(found) and (before.level is None or not own)
        if own:
            arms = {arm.label: arm.identity for arm in m.arms}
            probes = tuple(p for p in before.probes if arms.get(p.arm) == p.identity)
    level = None if unplanned else m.level
    changes = {"looks": tuple(sorted(looks)), "level": level, "probes": probes}
    return replace(plan, manifest=m.model_copy(update=changes))


def record_look(study_dir: Path) -> None:
    """Write into a study's declaration that it is judged with the seeds that it has. The study's lock is held."""
    manifest = read_manifest(study_dir)
    looks = tuple(sorted({*manifest.looks, len(manifest.seeds)}))
    if looks != manifest.looks:
        write_manifest(study_dir, manifest.model_copy(update={"looks": looks}))


def run_study(
    plan: Plan,
    place: AnyPlace,
    results: Path,
    workers: int | str | None,
    plugins: Sequence[Path] = (),
    refused: Mapping[str, str] | None = None,
) -> Iterator[Finished | EpochEnd]:
    """Do what is missing of a plan, yielding each run as it ends. The study's lock is held.

    Epochs of runs on this machine are yielded meanwhile.

    `workers` is a number of local processes, None for as many as one CUDA device holds, or the address of a Ray
    cluster ("local" or "ray://..."). Runs that are `refused`, by id and with a reason, are stored as failed.

    May be stopped at any moment; the same plan then goes on where it stopped.

    Raises:
        OSError: the folder cannot be written any more, for example because the disk is full.
    """
    study_dir = results / plan.manifest.study
    write_manifest(study_dir, plan.manifest)
    adopt(study_dir, plan.found)
    home = results / FOLDER
    place = at_home(place, workers not in (1, None), study_dir, home)
    refused = refused or {}
    missing = [
        Job(
            spec,
            plan.manifest.experiment,
            study_dir,
            place,
            plan.identities.get(spec.run_id) or plan.stages.identities[spec.run_id],
            plan.stages.files(spec.run_id, home),
            spec.run_id in plan.stages.specs,
            plan.label(spec),
        )
        for spec in plan.missing
    ]
    for job in missing:
        if job.spec.run_id in refused:
            yield lost(job, refused[job.spec.run_id])
    jobs = [job for job in missing if job.spec.run_id not in refused]
    if isinstance(place, CommandPlace):
        jobs = yield from _first_alone(jobs, place, plan)
    if jobs:
        if workers is None:
            yield from run_packed(jobs, plugins)
        elif isinstance(workers, int):
            yield from run_jobs(jobs, workers, plugins)
        else:
            from harness.study.workers.ray import run_jobs_on_ray  # an optional dependency

            cards = place.experiment.command.gpus if isinstance(place, CommandPlace) else 1
            yield from run_jobs_on_ray(jobs, workers, plugins, float(cards) if place.device != "cpu" else 0.0)
    consolidate(study_dir)


def _first_alone(
    jobs: Sequence[Job], place: CommandPlace, plan: Plan
) -> Generator[Finished | EpochEnd, None, list[Job]]:
    """Run one baseline before all others, unless one is stored: what fails there would fail in every run.

    Keeps the difference of the code to its commit, once for all runs of that code. Returns what is left to do.

    Raises:
        UserError: the run failed; shows the end of its log.
    """
    if jobs and place.planned_code.diff:
        kept = jobs[0].study_dir / DIFFS / f"{place.planned_code.digest}.diff"
        kept.parent.mkdir(exist_ok=True)
        atomically(kept, lambda file: file.write(place.planned_code.diff))
    first = next((job for job in jobs if not job.spec.arm.tricks), None)
    if first is None or any(not s.arm.tricks and plan.key(s) in plan.found for s in plan.specs):
        return list(jobs)
    for news in run_jobs([first], 1):
        yield news
        if isinstance(news, Finished) and news.status == "failed":
            log = first.study_dir / LOGS / f"{Path(file_name(*first.key)).stem}.txt"
            shown = "".join(f"\n  {line}" for line in tail(log))
            raise UserError(
                f"the first run of the {BASELINE} failed, so nothing else starts: {news.reason}\n{log}:{shown}"
            )
    return [job for job in jobs if job is not first]
