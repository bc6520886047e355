"""What several processes share while they search together: Optuna's storage, locks, and who is alive.

A lock is a file that the system unlocks when its process dies, so a killed search leaves nothing locked. The locks lie
in the search's folder, or beside the file of trials that the user named. Hosts that share a database server but no
folder search together, too; then a dead host's trials are noticed by their missing heartbeat instead.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import UserError

HEARTBEAT, GRACE = 15, 60
"""Seconds between the signs of life of a trial on a server, and after which a silent one is taken for dead."""

SQLITE_PATIENCE = 60
"""Seconds that a process waits for others to finish writing the file."""

DATABASE, LOCKS = "optuna.db", "locks"
FILES = ("journal:", "sqlite:///")
"""Storages that are a file: what stands before its path."""

PROCESS = "process"
"""The user attribute of a trial that names the process that does it."""


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Where trials are kept: a SQLite file in the search's folder, or what `url` says.

    Args:
        url: None, "journal:PATH" for a file on a folder that several machines share, or any URL of SQLAlchemy.
        folder: the search's folder.

    Raises:
        UserError: it cannot be opened; a password in the URL is not shown.
    """
    quiet()
    locks = lock_folder(url, folder)
    url = url or f"sqlite:///{(folder / DATABASE).absolute()}"
    if url.startswith("journal:"):
        return JournalStorage(JournalFileBackend(str(_file(url))))
    try:
        with FileLock(locks / "storage"):  # two processes must not make the tables at once
            if url.startswith("sqlite"):
                return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": SQLITE_PATIENCE}})
            return RDBStorage(
                url,
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise UserError(f"--storage {told(url)}: cannot be opened: {first_line(error, url)}") from None


def lock_folder(url: str | None, folder: Path) -> Path:
    """Where the locks of a search are, made if need be: whoever shares a file of trials must share its locks.

    Raises:
        UserError: the file's folder does not exist.
    """
    path = _file(url)
    if path is not None and not path.absolute().parent.is_dir():
        raise UserError(f"--storage {told(url or '')}: no such folder {path.parent}")
    locks = folder / LOCKS if path is None else path.with_name(f"{path.name}.locks") / folder.name
    locks.mkdir(parents=True, exist_ok=True)
    return locks


def _file(url: str | None) -> Path | None:
    """The file of a storage that is one."""
    prefix = next((p for p in FILES if url is not None and url.startswith(p)), None)
    return Path(url.removeprefix(prefix).split("?")[0]) if url is not None and prefix is not None else None


def quiet() -> None:
    """Keep Optuna from telling of every trial, which the command line does, and of what is new in it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("sqlalchemy").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)


def is_server(storage: BaseStorage) -> bool:
    """Whether hosts can share the storage without sharing a folder."""
    return isinstance(storage, RDBStorage) and storage.heartbeat_interval is not None


def told(url: str) -> str:
    """A storage as it may be printed. Of a URL that is the driver alone: a password may stand anywhere in the rest."""
    prefix = next((p for p in FILES if url.startswith(p)), None)
    driver = re.match(r"[a-z0-9+]+:", url)
    return f"{prefix}{_file(url)}" if prefix is not None else f"{driver[0] if driver else ''}..."


def first_line(error: BaseException, url: str | None) -> str:
    """What an error of the storage says, in one line, with what to install where that is missing.

    What stands in the URL where a password may, also by mistake, is left out: before the last "@", in place of a port,
    and in the query.
    """
    text = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
    place, _, query = (url or "").partition("://")[2].partition("?")
    user, _, host = place.rpartition("@")
    port = [part for part in host.partition("/")[0].split(":")[1:] if not part.isdigit()]
    values = [part.partition("=")[2] or part for part in query.split("&")]
    secrets = [url or "", *re.split("[:/@]", user)[1:], user.partition(":")[2], *port, query, *values]
    for secret in sorted({s for one in secrets for s in (one, unquote(one)) if s}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text + ("; pip install 'harness[postgres]'" if "No module named 'psycopg2'" in text else "")


class Shared:
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
