"""Copies of image folders as decoded arrays: where they are, and what they say of themselves.

A copy is a folder with `about.json`, and for each split the pixels of all images, one after the other, each with a
shorter side of at most `KEPT` times the asked one (`.npy`), the size and the sums of each image (`.index.npy`) and a
report of the files that could not be decoded (`.json`). Nothing here imports torch or Pillow.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.data.disk import atomic, cache_folders, shown
from harness.data.listing import SPLITS
from harness.errors import UserError

DECODER = "3"
"""Changed when decoding changes pixels: older decoded files are then not taken, and rows of runs on them not reused,
since it is part of the digest of a folder."""

KEPT = 2
"""Images are kept with a shorter side of so many times `data.image_size`, or as they are if they are smaller. A crop of
8 % of the area takes 0.28 of the side: kept at 8/7 of the asked size, such crops have 0.87 to 0.92 of the sharpness of
crops of the original (mean gradient of two photographs of 427 x 640 at 64 to 200 pixels), at 1.5 times 0.95 to 0.97 and
at twice 0.98 to 0.99."""

Failure = tuple[int, str, str]
"""A file that could not be decoded: its position among the files of its split, its path, and the reason."""


def pillow() -> str:
    """The installed version of Pillow, whose decoders decide the pixels."""
    return version("pillow")


@dataclass(frozen=True)
class About:
    """What a decoded copy was made from and by. folder: the path of the data set, or of its table."""

    folder: str
    classes: tuple[str, ...]
    digest: str
    size: int
    window: tuple[float, float] | None
    decoder: str = DECODER
    pillow: str = ""
    channels: int = 3
    group: str | None = None
    kind: str = ""
    """The data set's `data.name`; empty in copies of earlier versions."""

    @property
    def key(self) -> str:
        """Names the copy: equal images in two folders share one."""
        parts: tuple[object, ...] = (self.digest, self.size, self.window, self.decoder, self.pillow)
        parts += (self.channels,) if self.channels != 3 else ()
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Copy:
    """A copy on disk. size: in bytes. about: None when the copy does not say what it is."""

    path: Path
    size: int
    about: About | None
    complete: bool


def place(about: About, data_root: Path) -> Path:
    """The folder of a complete copy, or a new one that can be written: beside the data, or in the user's cache.

    Raises:
        UserError: neither can be written.
    """
    bases = cache_folders(data_root)
    for base in bases:
        folder = base / about.key
        if (folder / f"{SPLITS[-1]}.npy").is_file():
            return folder
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                with atomic(folder / "about.json") as stream:
                    stream.write(json.dumps(asdict(about)).encode())
                return folder
    raise UserError(
        f"decoded images can be written to none of {', '.join(shown(base.parent) for base in bases)}; make one of them "
        "writable"
    )


def read_report(path: Path) -> list[Failure]:
    """The files of one split that could not be decoded.

    Raises:
        OSError, ValueError, TypeError: it is missing or damaged.
    """
    return [(int(position), str(name), str(why)) for position, name, why in json.loads(path.read_bytes())]


def reports(about: About, data_root: Path) -> list[list[Failure]] | None:
    """For each split the files that could not be decoded, or None when there is no complete copy."""
    for base in cache_folders(data_root):
        folder = base / about.key
        if (folder / f"{SPLITS[-1]}.npy").is_file():
            with contextlib.suppress(OSError, ValueError, TypeError):
                return [read_report(folder / f"{split}.json") for split in SPLITS]
    return None


def copies(data_root: Path) -> Iterator[Copy]:
    """All decoded copies that lie in the data root and in the user's cache."""
    for base in dict.fromkeys(cache_folders(data_root)):
        for folder in sorted(base.iterdir()) if base.is_dir() else ():
            if not folder.is_dir():
                continue
            about = None
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                about = _parse(json.loads((folder / "about.json").read_bytes()))
            size = sum(file.stat().st_size for file in folder.iterdir())
            yield Copy(folder, size, about, (folder / f"{SPLITS[-1]}.npy").is_file())


def _parse(values: dict[str, Any]) -> About:
    window = values["window"] and tuple(values["window"])
    return About(**values | {"classes": tuple(values["classes"]), "window": window})
