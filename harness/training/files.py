"""Files of tensors, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: Any) -> None:
    """Write what torch can save, under a temporary name first, which does not stay.

    Raises:
        OSError: the disk is full or the folder cannot be written.
        RuntimeError: as torch says it where a write fails inside of its archive.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
