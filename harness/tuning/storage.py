"""Where the trials of a search are kept: Optuna's storages, and what may be printed of them; not who else uses them."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from urllib.parse import unquote

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import UserError

HEARTBEAT, GRACE = 15, 60
"""Seconds between the signs of life of a trial on a server, and after which a silent one is taken for dead."""

SQLITE_PATIENCE = 60
"""Seconds that a process waits for others to finish writing the file."""

DATABASE, LOCKS = "optuna.db", "locks"
FILES = ("journal:", "sqlite:///")
"""Storages that are a file: what stands before its path."""


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
