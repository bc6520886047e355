"""A whole search on this machine: its trials, then comparisons on fresh seeds, then its record; each is a file here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from harness.commands.kinds import AnySpec, of_loop
from harness.errors import UserError
from harness.experiment import BASELINE
from harness.names import SEARCHING, check_free
from harness.store.locks import alone
from harness.store.merge import consolidate
from harness.store.schema import Manifest
from harness.store.writer import prepare
from harness.study.forecast import stored_runs
from harness.study.places import AnyPlace, at_home, machine_of
from harness.study.preflight import Rehearsal, look, unseen_line
from harness.study.stages import FOLDER
from harness.study.workers.local import open_pool
from harness.training.place import Place
from harness.tuning.comparisons import compare
from harness.tuning.find_or_train import Runs
from harness.tuning.peers import Peers
from harness.tuning.plan import SearchPlan
from harness.tuning.record import make_record, params_of, searched_arm, winner, write_record
from harness.tuning.space import settle
from harness.tuning.storage import first_line, is_server, lock_folder, open_storage
from harness.tuning.trials import Done, Tuner, repeatedly


class SearchWorkflow:
    """Does a plan with one pool of workers; see `open_search`."""

    def __init__(
        self, plan: SearchPlan, tuner: Tuner, runs: Runs, peers: Peers, workers: int, warnings: Sequence[str]
    ) -> None:
        self.plan, self._tuner, self.warnings = plan, tuner, tuple(warnings)
        self._runs, self._peers, self._workers = runs, peers, workers
        self._fingerprint = machine_of(runs.place, plan.experiment)["fingerprint"]

    @property
    def ended(self) -> int:
        """How many trials have ended, of all arms together."""
        return self._tuner.ended

    @property
    def complete(self) -> bool:
        """Whether every arm has had its budget."""
        return self._tuner.complete

    def trials(self, deadline: float) -> Iterator[Done]:
        """Do what is left of every arm's budget; no trial begins after the deadline (`time.monotonic`)."""
        yield from self._tuner.run(self._workers, deadline, self._stop)

    def compare(self) -> Iterator[tuple[AnySpec, int]]:
        """Train the winners and the default values on the fresh seeds and write the record.

        Yields each run as it is there, with the number of all. Every arm has had its budget.
        """
        with self._peers.final():
            winners = {}
            for i, arm in enumerate(self.plan.arms):
                best = winner(self._tuner.trials(i))
                winners[arm.label] = params_of(arm, best) if best is not None else None
            made = compare(self.plan, winners, self._fingerprint)
            waiting = deque(made.specs)

            def step() -> tuple[AnySpec, int] | None:
                try:
                    spec = waiting.popleft()
                except IndexError:
                    return None
                self._runs.obtain(spec)
                return spec, len(made.specs)

            yield from repeatedly(step, self._workers, self._stop)
            self._write(made.manifests)
            with alone(self._runs.folder):
                consolidate(self._runs.folder)

    def leave(self, note: str) -> None:
        """Write the record of a search that is not complete, with the reason."""
        self._write({}, note)

    def _write(self, comparisons: Mapping[str, Manifest], note: str = "") -> None:
        arms = [searched_arm(self.plan, arm, self._tuner.trials(i)) for i, arm in enumerate(self.plan.arms)]
        write_record(self._runs.folder, make_record(self.plan, arms, comparisons, self._fingerprint, note))

    def _stop(self) -> None:
        self._peers.stopped.set()
        self._runs.pool.stop()


@contextmanager
def open_search(
    plan: SearchPlan, place: AnyPlace, results: Path, storage: str | None, workers: int, plugins: Sequence[Path]
) -> Iterator[SearchWorkflow]:
    """A search's folder, storage and workers. Leaving early (Ctrl-C) stops them; the same plan then goes on.

    Args:
        plan: of the search.
        place: where runs are trained.
        results: the folder of all studies and searches.
        storage: as `open_storage` takes it.
        workers: processes, and trials at a time.
        plugins: files with tricks.

    Raises:
        UserError: folder, storage or trials there do not fit, or the baseline cannot be trained.
    """
    folder = results / plan.search
    prepare(folder)
    with alone(folder):  # a study of that name may be at work, without a declaration yet
        check_free(results, plan.search, "search")
        (folder / SEARCHING).touch()
    plan, rehearsal = _rehearsed(plan, place, folder, workers, plugins)
    place = rehearsal.place
    plan = replace(plan, machine=machine_of(place, plan.experiment)["fingerprint_json"])
    opened = open_storage(storage, folder)
    peers = Peers(lock_folder(storage, folder), is_server(opened))
    place = at_home(place, workers != 1, folder, results / FOLDER)
    try:
        with open_pool(workers, place, plugins) as pool:
            refused = {arm.tricks: why for arm in plan.arms if (why := rehearsal.failed.get(arm.label))}
            name = plan.experiment.experiment.name
            runs = Runs(folder, results, name, place, pool, peers.stopped, plan.images, refused)
            warnings = [f"{label}: {why}; its runs are stored as failed" for label, why in rehearsal.failed.items()]
            warnings += unseen_line(rehearsal)
            yield SearchWorkflow(plan, Tuner(plan, opened, peers, runs.score), runs, peers, workers, warnings)
        peers.leave()
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(
            f"the storage of {plan.search} failed: {first_line(error, storage)}; finished runs are stored, and the "
            "same command goes on from here"
        ) from None
    finally:
        peers.close()


def _rehearsed(
    plan: SearchPlan, place: AnyPlace, folder: Path, workers: int, plugins: Sequence[Path]
) -> tuple[SearchPlan, Rehearsal]:
    """Look at every arm with its default values; the failed ones are named by their labels."""
    if not isinstance(place, Place):  # commands are seen to fail when they run
        return plan, Rehearsal(place)
    specs = {}
    for arm in plan.arms:
        experiment, resolved = settle(plan.experiment, arm.tricks, {})
        specs[arm.label] = of_loop(experiment.spec(resolved, plan.tuning_seeds[0]))
    runs = sum(plan.most_runs[arm.label] * arm.cost for arm in plan.arms) / workers
    found = look(list(specs.values()), place, folder, plan.images, runs, plugins)
    failed = {label: found.failed[s.run_id] for label, s in specs.items() if s.run_id in found.failed}
    return replace(plan, notes=(*plan.notes, *filter(None, [found.note]))), replace(found, failed=failed)


def expected_seconds(plan: SearchPlan, place: AnyPlace, results: Path, workers: int) -> float | None:
    """Wall seconds of all runs of a plan if none is pruned or stored, or None where no run says how long one takes."""
    mark = machine_of(place, plan.experiment)["fingerprint"]
    default = compare(plan, {arm.label: None for arm in plan.arms}, mark).manifests["default"]
    stored = stored_runs(default, plan.experiment, results)
    timed = stored[stored["arm"] == BASELINE]["seconds_total"]
    if timed.empty:
        return None
    return float(timed.median()) * sum(plan.most_runs[arm.label] * arm.cost for arm in plan.arms) / workers
