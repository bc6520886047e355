"""Where data sets lie, and where what was computed from them is kept. Nothing here imports torch or Pillow."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.errors import UserError

CACHE = ".harness-decoded"
"""Folder of decoded images and of the files' hashes, in the data root or in the user's cache."""

TIMEOUT_SECONDS = 15.0
"""How long a download may be silent. Torchvision sets no limit and would wait for ever."""


def expand(path: str | Path) -> Path:
    """The path with a leading ~ replaced by the home folder.

    Raises:
        UserError: there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no home folder for ~ (HOME is not set); write the whole path") from None


def shown(path: str | Path) -> str:
    """A path or name that can be printed and stored; of what is not UTF-8, each byte becomes an escape sequence."""
    escaped = "surrogateescape" if os.name == "posix" else "surrogatepass"
    return str(path).encode("utf-8", escaped).decode("utf-8", "backslashreplace")


def data_root() -> Path:
    """The folder that holds data sets: the environment variable HARNESS_DATA, or ~/.cache/harness.

    Without a home folder the default lies in the folder for temporary files.

    Raises:
        UserError: HARNESS_DATA begins with ~ and there is no home folder.
    """
    named = os.environ.get("HARNESS_DATA")
    if named:
        return expand(named)
    try:
        return expand("~/.cache/harness")
    except UserError:
        return Path(tempfile.gettempdir(), "harness")


def cache_folders(data_root: Path) -> list[Path]:
    """Where results of reading data may be kept, best first: beside the data, then in the user's cache."""
    folders = [data_root / CACHE]
    with contextlib.suppress(UserError):
        folders.append(expand("~/.cache/harness") / CACHE)
    return folders


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is complete, whoever else writes it at the same time."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
