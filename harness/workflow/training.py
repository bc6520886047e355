"""From a plan to its page: a folder to oneself, the missing runs trained, the look recorded, the page written."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.content import content
from harness.errors import UserError
from harness.experiment import Experiment
from harness.store.locks import POLL, StudyLock
from harness.store.writer import prepare
from harness.workflow.events import Epoch, Event, Finished, Started, Waiting, Written

if TYPE_CHECKING:
    from harness.commands.kinds import AnyExperiment
    from harness.study.places import AnyPlace
    from harness.study.plan import Plan
    from harness.workflow.request import ReplicationRequest, Request

NAMED = 5
"""Of many files that are left out, so many are named."""

Events = Generator[Event, None, None]


def hold(held: ExitStack, folder: Path) -> Events:
    """Have a study's folder for oneself until `held` is closed."""
    prepare(folder)
    lock = StudyLock(folder)
    if not lock.take():
        yield Waiting(folder.name)
        while not lock.take():
            time.sleep(POLL)
    held.callback(lock.release)


def opened(held: ExitStack, plan: Plan, results: Path, named: bool) -> Generator[Event, None, Plan]:
    """Have the folder of a study for oneself until `held` is closed; returns the plan with what is stored now.

    A folder belongs to one question. A study that asks another one under a name that nobody chose gets that name with
    six hex digits of its question. The looks that were taken at the study stay in its declaration.

    Raises:
        UserError: the chosen name is that of another study, or the folder cannot be written.
    """
    from harness.names import check_free
    from harness.study.runner import other_question, taken

    for candidate in [plan] if named else [plan, plan.renamed(f"{plan.manifest.study}-{plan.mark}")]:
        folder = results / candidate.manifest.study
        yield from hold(held, folder)
        check_free(results, folder.name, "study")
        why = other_question(folder, candidate.manifest)
        if not why:
            return taken(folder, candidate).look(results)
        held.close()
    raise UserError(
        f"study {folder.name} in {results} asks something else ({'; '.join(why[:3])}); choose another name with "
        "--name, or remove that folder"
    )


def write(folder: Path, reports: Path) -> Written:
    """Judge a study and write its page."""
    from harness.report.pages.study import write_report

    page, loaded = write_report(folder, reports)
    return Written(folder.name, folder, page, loaded)


@dataclass(frozen=True)
class Trainer:
    """How the studies of a request are trained: on what, where, and by how many workers."""

    r: Request | ReplicationRequest
    experiment: AnyExperiment
    place: AnyPlace
    workers: int | str | None

    def do(self, plan: Plan, named: bool, last: bool | None = None) -> Generator[Event, None, Written]:
        """Train what is missing of a plan and write its page, with the study's folder to oneself.

        Arms that collapsed are then trained at lower rates, unless more seeds follow: after the `last` look, or one
        that leaves nothing undecided; never where that is None.
        """
        from harness.study.probes import probing
        from harness.study.runner import record_look, taken
        from harness.training.place import Place

        r = self.r
        with ExitStack() as held:
            plan = yield from opened(held, plan, r.results, named)
            folder = r.results / plan.manifest.study
            plan, place = yield from self._train(plan, self.place)
            record_look(folder)
            written = write(folder, r.reports)
            arms = written.loaded.collapsed
            if arms and isinstance(place, Place) and last is not None and (last or not written.undecided):
                note = f"at lower learning rates, because they collapsed: {', '.join(arms)}"
                yield from self._train(probing(taken(folder, plan), arms, place, r.results), place, note)
                written = write(folder, r.reports)
            return written

    def _train(self, plan: Plan, place: AnyPlace, note: str = "") -> Generator[Event, None, tuple[Plan, AnyPlace]]:
        """Do the missing runs; returns what was done, and where. A `note` is said in place of those of the plan."""
        from harness.study.preflight import preflight
        from harness.study.runner import run_study
        from harness.study.workers.job import EpochEnd

        r = self.r
        ready = preflight(plan, place, r.results, self.workers, r.plugins)
        plan, passed_over = self._noted(ready.plan)
        missing = len(plan.missing)
        notes = (note,) if note else (*passed_over, *plan.manifest.sentences)
        total = len(plan.specs) + sum(map(bool, map(plan.label, plan.missing)))
        yield Started(plan.manifest.study, total, missing, notes, ready.lines)
        for run in run_study(plan, ready.place, r.results, self.workers, r.plugins, ready.refused):
            if isinstance(run, EpochEnd):
                yield Epoch(run.arm, run.seed, run.epoch, run.epochs, run.points)
                continue
            told = run.reason in ready.refused.values()
            yield Finished(run.arm, run.seed, run.status, run.reason, run.seconds, run.val_accuracy, told)
        return plan, ready.place

    def _noted(self, plan: Plan) -> tuple[Plan, tuple[str, ...]]:
        """The plan with what is left out of its images, and lines about what was passed over where runs are missing."""
        from harness.training.place import Place

        if not isinstance(self.experiment, Experiment) or not isinstance(self.place, Place):
            return plan, ()
        images = content(self.experiment.data, self.place.data_root)
        noted = plan.noted(left_out(images.unreadable, images.images)) if images.unreadable else plan
        if images.leak:
            noted = replace(noted, manifest=noted.manifest.model_copy(update={"leak": images.leak}))
        return noted, tuple(images.notes) if noted.missing else ()


def left_out(unreadable: Sequence[tuple[str, str]], images: int) -> str:
    """Which files of a data set are in no split, in a sentence.

    Args:
        unreadable: (path, reason) of each.
        images: how many the data set has with them.
    """
    named = "; ".join(f"{path}: {why}" for path, why in unreadable[:NAMED])
    more = f"; and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
    return f"{len(unreadable)} of {images} image files cannot be read and are left out ({named}{more})."
