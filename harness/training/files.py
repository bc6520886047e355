"""Files of tensors, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch


def save(path: Path, state: Any) -> None:
    """Write what torch can save, under a temporary name first, which does not stay.

    Raises:
        OSError: the disk is full or the folder cannot be written.
        RuntimeError: as torch says it where a write fails inside of its archive.
    """
    _whole(path, lambda file: torch.save(state, file))


def write(path: Path, content: bytes) -> None:
    """Write bytes in the same way.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    _whole(path, lambda file: file.write(content))


def _whole(path: Path, write_to: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write_to(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
