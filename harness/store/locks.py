"""Locks between processes: one writer for a study's folder, one worker for a run.

A lock is a file that the system unlocks when its process dies, so a killed command leaves nothing locked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError
from harness.store.reader import Key
from harness.store.writer import file_name

LOCKS = ".locks"
POLL = 0.1
"""Seconds between tries to get what another process has."""

PATIENCE = 60.0
"""Seconds that a command waits for a folder which others have for moments: peers of a search while they merge files."""


class StudyLock:
    """What one process at a time has: a study's folder with its declaration, its merged files and its page."""

    def __init__(self, study_dir: Path) -> None:
        self._results = study_dir.parent
        self._lock = FileLock(_lock_path(self._results, f"{study_dir.name}.lock"), thread_local=False)

    def take(self) -> bool:
        """Try to get the folder; False while another process has it.

        Raises:
            UserError: the file system has no locks, or cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except NotImplementedError as error:
            raise UserError(f"{self._results}: {error}; choose a folder with locks, with --results") from None
        return True

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have the folder for oneself, among all commands; processes of one search share it but for this.

    Raises:
        UserError: another command has it for long.
    """
    lock, began = StudyLock(folder), time.monotonic()
    while not lock.take():
        if time.monotonic() - began > PATIENCE:
            raise UserError(f"{folder}: another command works on it; wait until it ends, or choose another --name")
        time.sleep(POLL)
    try:
        yield
    finally:
        lock.release()


class Claims:
    """The runs that this process may train now, each held by one process at a time."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._held: dict[Key, FileLock] = {}

    def take(self, key: Key) -> bool:
        """Try to get a run; False while another process, or another thread of this one, has it."""
        lock = FileLock(_lock_path(self._results, f"runs/{file_name(*key)}.lock"), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        if not _is_there(lock):  # whoever had it has removed its file meanwhile, and others may have a new one
            lock.release()
            return False
        self._held[key] = lock
        return True

    def give(self, key: Key) -> None:
        """Let go of a run. Its file goes, too: whoever waits for it looks first whether the run is stored."""
        lock = self._held.pop(key)
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()

    def close(self) -> None:
        """Let go of all."""
        for key in list(self._held):
            self.give(key)


def _is_there(lock: FileLock) -> bool:
    """Whether the file that is locked is the one that others would lock."""
    descriptor = lock._context.lock_file_fd
    try:
        return descriptor is None or os.path.samestat(os.fstat(descriptor), os.stat(lock.lock_file))
    except OSError:
        return False


def _lock_path(results: Path, name: str) -> Path:
    path = results / LOCKS / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"results folder {results} cannot be written: {error.strerror}; choose another with --results"
        ) from None
    return path
