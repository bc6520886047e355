"""The processes that do one search together: who is alive, whose turn it is, and a dead one's trials; keeps no trials.

A lock is a file that the system unlocks when its process dies, so a killed search leaves nothing locked. The locks lie
in the search's folder, or beside the file of trials that the user named. Hosts that share a database server but no
folder search together, too; then a dead host's trials are noticed by their missing heartbeat instead.
"""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from harness.errors import UserError

PROCESS = "process"
"""The user attribute of a trial that names the process that does it."""


class Peers:
    """This process among those that search in a folder: its name, and the locks that they agree by.

    Raises:
        UserError: the folder's file system has no locks.
    """

    def __init__(self, locks: Path, server: bool = False) -> None:
        self._folder = locks
        self.server = server
        self.stopped = threading.Event()
        self.name = f"{PROCESS}-{uuid.uuid4().hex[:12]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._alive = FileLock(self._folder / self.name, thread_local=False)
        try:
            self._alive.acquire()
        except NotImplementedError as error:
            raise UserError(f"{locks}: {error}; choose a folder with locks, with --results") from None

    @property
    def stream(self) -> str:
        """What tells this process's draws from those of processes that do not share its locks."""
        return f"@{socket.gethostname()}" if self.server else ""

    def turn(self, arm: str) -> FileLock:
        """Held by who counts the trials of an arm, or begins one."""
        return FileLock(self._folder / f"arm-{arm}"[:200])

    @contextmanager
    def final(self) -> Iterator[None]:
        """Held by who compares the winners and writes the record.

        Raises:
            CancelledError: the search was stopped while this waited.
        """
        lock = FileLock(self._folder / "final")
        while True:
            try:
                lock.acquire(timeout=1.0)
                break
            except Timeout:
                if self.stopped.is_set():
                    raise CancelledError("stopped") from None
        try:
            yield
        finally:
            lock.release()

    def dead(self) -> Iterator[str]:
        """The processes with these locks that ended without `leave`; each is forgotten when the next is asked for."""
        for path in sorted(self._folder.glob(f"{PROCESS}-*")):
            if path.name == self.name:
                continue
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield path.name
                path.unlink(missing_ok=True)
            finally:
                lock.release()

    def leave(self) -> None:
        """Say that nothing is left undone."""
        (self._folder / self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Be dead to others: what this process left undone is theirs."""
        self._alive.release()


def known(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of a study, without those that were begun again because their process had died."""
    trials = study.get_trials(deepcopy=False)
    again = {number for t in trials for number in t.system_attrs.get("retry_history", ())}
    return [t for t in trials if t.number not in again]


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count towards the budget: those that are no longer waiting."""
    return [t for t in known(study) if t.state != TrialState.WAITING]


def take_up(study: optuna.Study, process: str | None) -> None:
    """Begin the trials of a dead process again, with their own values. The arm's turn is held.

    Args:
        study: of the arm.
        process: its name; None for trials whose process died before it could put down its name.
    """
    for trial in counted(study):
        if trial.state == TrialState.RUNNING and trial.user_attrs.get(PROCESS) == process:
            RetryHeartbeatStaleTrialCallback()(study, trial)
            study.tell(trial.number, state=TrialState.FAIL)
