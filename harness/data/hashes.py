"""The sha256 of each file of a data set, read again only when the file system says that a file changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.cpus import available
from harness.data.disk import atomic, cache_folders, shown
from harness.data.listing import Facts, File
from harness.errors import UserError

TICK_SECONDS = 0.1
"""A file that was changed so shortly before its hash was taken may change again with the same times, since file
systems stamp in ticks (10 ms or less); its hash is not kept."""

WHOLE_SECONDS = 2.5
"""The same for file systems that stamp in whole or even seconds."""

Entry = tuple[int, int, int, int, str]
"""The facts of a file and its hash."""


class Hash(NamedTuple):
    """The sha256 of a file's bytes in hex, or "" and why the file cannot be read."""

    sha256: str
    why: str = ""


def changed(path: str | Path) -> UserError:
    """The error of a file that is not what it was when it was listed or hashed."""
    return UserError(f"{shown(path)} changed while it was read; start again when the images are complete")


def hashes(folder: Path, files: Sequence[File], data_root: Path) -> list[Hash]:
    """The sha256 of each file's bytes.

    Hashes are kept beside the decoded images. One is trusted only while name, size, times of change and inode
    of the file agree; a damaged store is made anew.

    Args:
        folder: the data set.
        files: what `list_folder` found there.
        data_root: the folder that holds data sets.

    Raises:
        UserError: a file changed while it was read.
    """
    stores = [base / f"hashes-{_name(folder)}.json" for base in cache_folders(data_root)]
    known: dict[str, Entry] = {}
    for store in reversed(stores):
        known |= _read(store)
    out: dict[str, Hash] = {}
    missing = []
    for file in files:
        entry = known.get(file.name)
        if entry is not None and tuple(entry[:4]) == file.facts:
            out[file.name] = Hash(entry[4])
        else:
            missing.append(file)
    if missing:
        from concurrent.futures import ThreadPoolExecutor

        now = time.time_ns()
        with ThreadPoolExecutor(available().count) as pool:  # hashing leaves Python's lock
            taken = dict(zip(missing, pool.map(lambda file: _hash(folder, file), missing), strict=True))
        out |= {file.name: value for file, value in taken.items()}
        fresh = {f.name: (*f.facts, h.sha256) for f, h in taken.items() if h.sha256 and _settled(f.facts, now)}
        if fresh:
            _keep(stores, known | fresh)
    return [out[file.name] for file in files]


def _name(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]


def _hash(folder: Path, file: File) -> Hash:
    path = os.path.join(folder, file.name)
    try:
        with open(path, "rb") as stream:
            before = os.fstat(stream.fileno())
            value = hashlib.file_digest(stream, "sha256").hexdigest()
            after = os.fstat(stream.fileno())
    except FileNotFoundError:
        raise changed(path) from None
    except OSError as error:
        return Hash("", error.strerror or type(error).__name__)
    if not file.facts[:2] == (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
        raise changed(path)
    return Hash(value)


def _settled(facts: Facts, now_ns: int) -> bool:
    """Whether any later change will show in the file's times."""
    margin = TICK_SECONDS if facts.ctime_ns % 1_000_000_000 else WHOLE_SECONDS
    return facts.ctime_ns < now_ns - margin * 1e9


def _read(store: Path) -> dict[str, Entry]:
    """What a store holds: a checksum in the first line, then JSON; nothing when it is missing or damaged."""
    try:
        mark, _, text = store.read_bytes().partition(b"\n")
        if hashlib.sha256(text).hexdigest().encode() != mark:
            return {}
        entries: dict[str, Entry] = json.loads(text)
        return entries
    except (OSError, ValueError):
        return {}


def _keep(stores: Sequence[Path], entries: dict[str, Entry]) -> None:
    """Write the first store that can be written; without one, files are hashed again the next time."""
    text = json.dumps(entries, separators=(",", ":")).encode()
    for store in stores:
        with contextlib.suppress(OSError):
            store.parent.mkdir(parents=True, exist_ok=True)
            with atomic(store) as stream:
                stream.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
            return
