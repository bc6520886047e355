"""The trials of all arms, done by many threads and processes at once within each arm's budget; not one trial's work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from filelock import BaseFileLock
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from harness.errors import UserError
from harness.identity import differences
from harness.metrics import OBJECTIVES
from harness.tuning.objective import BlockObjective, Evaluate, Refused, Stopped
from harness.tuning.peers import PROCESS, Peers, counted, known, take_up
from harness.tuning.plan import SearchedArm, SearchPlan
from harness.tuning.samplers import make_pruner, make_sampler
from harness.tuning.space import picked, suggest

T = TypeVar("T")

POLL = 1.0
"""Seconds between looks at the trials of other processes, when there is nothing left to begin."""

SETTINGS = "settings"
"""The user attribute of an Optuna study that says what its trials have in common."""


@dataclass(frozen=True)
class Done:
    """A trial that ended just now, and how many have, of all arms and processes."""

    arm: SearchedArm
    trial: FrozenTrial
    ended: int


class Tuner:
    """The trials of a plan.

    Every trial is begun while its arm's turn is held, so that no process begins one too many. Waiting trials (the
    default, those of a grid, those of dead processes) come first; then the sampler draws.
    """

    def __init__(self, plan: SearchPlan, storage: BaseStorage, peers: Peers, evaluate: Evaluate) -> None:
        """Open the arms' studies in the storage, or make them.

        Raises:
            UserError: a study of that name was made with other settings.
        """
        self.plan, self._peers = plan, peers
        self._studies = [self._open(arm, storage) for arm in plan.arms]
        self._blocks = [
            BlockObjective(plan.experiment, arm.tricks, plan.tuning_seeds, plan.objectives, evaluate)
            for arm in plan.arms
        ]

    def trials(self, arm: int) -> list[FrozenTrial]:
        """The ended trials of an arm that count, in the order of their numbers: no more than its budget."""
        ended = [t for t in counted(self._studies[arm]) if t.state.is_finished()]
        return ended[: self.plan.arms[arm].trials]

    @property
    def ended(self) -> int:
        """How many trials have ended, of all arms together."""
        return sum(len(self.trials(i)) for i in range(len(self.plan.arms)))

    @property
    def complete(self) -> bool:
        """Whether every arm has had its budget."""
        return all(len(self.trials(i)) >= arm.trials for i, arm in enumerate(self.plan.arms))

    def run(self, workers: int, deadline: float, stop: Callable[[], None]) -> Iterator[Done]:
        """Do trials until every arm has had its budget, yielding each trial of this process as it ends.

        Args:
            workers: how many trials at a time.
            deadline: on the clock of `time.monotonic`; no trial begins after it.
            stop: called when the iterator is closed early; must make waiting runs raise `CancelledError`.
        """
        yield from repeatedly(lambda: self._next(deadline), workers, stop)

    def _open(self, arm: SearchedArm, storage: BaseStorage) -> optuna.Study:
        name = f"{self.plan.search}/{arm.label}"
        directions = [OBJECTIVES[o].direction for o in self.plan.objectives]
        settings = self.plan.settings(arm)
        with self._peers.turn(arm.label):
            study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
            if SETTINGS not in study.user_attrs:
                study.set_user_attr(SETTINGS, settings)
            differ = differences(study.user_attrs[SETTINGS], settings)
            if differ:
                raise UserError(
                    f"search {self.plan.search} has trials with other settings ({'; '.join(differ[:3])}); choose "
                    "another name with --name, or remove the old search"
                )
            study.pruner = make_pruner(self.plan.pruner)
            for params in arm.first[len(known(study)) :]:
                study.enqueue_trial(
                    picked(arm.space, params), user_attrs={"default": True} if params is arm.first[0] else None
                )
        return study

    def _next(self, deadline: float) -> Done | None:
        """Do one trial of the arm that has had the fewest; None when there is nothing left to do, or no time."""
        while time.monotonic() < deadline and not self._peers.stopped.is_set():
            self._take_up_dead()
            begun = [len(counted(study)) for study in self._studies]
            for index in sorted(range(len(begun)), key=lambda i: begun[i]):
                done = self._try(index)
                if done is not None:
                    return done
            if not self._others_at_work():
                return None
            self._peers.stopped.wait(POLL)
        return None

    def _try(self, index: int) -> Done | None:
        """Do one trial of an arm, unless its budget is spent."""
        arm, study = self.plan.arms[index], self._studies[index]
        with self._peers.turn(arm.label) as turn:
            if not self._peers.server:
                take_up(study, None)
            begun = len(counted(study))
            if begun >= arm.trials:
                return None
            study.sampler = make_sampler(self.plan.sampler, begun, arm.label + self._peers.stream)
            number = self._optimize(index, study, turn)
        # Read here, in a thread that Ctrl-C does not reach: a read that it breaks off can leave SQLite locked.
        return Done(arm, study.get_trials(deepcopy=False)[number], self.ended)

    def _optimize(self, index: int, study: optuna.Study, turn: BaseFileLock) -> int:
        """Begin a trial, pass the turn on, and finish the trial; returns its number."""
        begun: list[int] = []

        def objective(trial: optuna.Trial) -> Any:
            try:
                trial.set_user_attr(PROCESS, self._peers.name)
                params = suggest(self.plan.arms[index].space, trial)
                begun.append(trial.number)
                turn.release()
            except Exception as error:  # not the setting's fault
                raise Stopped from error
            values = self._blocks[index](trial, params)
            return values if len(values) > 1 else values[0]

        study.optimize(objective, n_trials=1, catch=(Refused,))
        return begun[0]

    def _take_up_dead(self) -> None:
        for process in self._peers.dead():
            for index, study in enumerate(self._studies):
                with self._peers.turn(self.plan.arms[index].label):
                    take_up(study, process)
        if self._peers.server:
            for index, study in enumerate(self._studies):
                with self._peers.turn(self.plan.arms[index].label):
                    fail_stale_trials(study)

    def _others_at_work(self) -> bool:
        running = [t for study in self._studies for t in counted(study) if t.state == TrialState.RUNNING]
        return any(t.user_attrs.get(PROCESS) != self._peers.name for t in running)


def repeatedly(step: Callable[[], T | None], threads: int, stop: Callable[[], None]) -> Iterator[T]:
    """Call `step` again and again in each of some threads until it returns None, yielding what it returns.

    When a step raises, or the iterator is closed early, `stop` is called, all threads are waited for, and the error
    goes on; what only says that the work was stopped gives way to what says why.
    """
    with ThreadPoolExecutor(threads) as executor:
        done: set[Future[T | None]] = set()
        pending = {executor.submit(step) for _ in range(threads)}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    if result is not None:
                        pending.add(executor.submit(step))
                        yield result
        except BaseException as error:
            stop()
            wait(pending)
            raise _reason(error, pending | done) from None


def _reason(error: BaseException, ended: Iterable[Future[Any]]) -> BaseException:
    """Of the errors that ended the work, one that says more than that it was stopped."""
    errors = [error, *(e for f in ended if (e := f.exception()) is not None)]
    causes = [e.__cause__ if isinstance(e, Stopped) and e.__cause__ is not None else e for e in errors]
    return next((cause for cause in causes if not isinstance(cause, CancelledError)), error)
