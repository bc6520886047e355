"""Folders of images, `train/<class>/*` and `val/<class>/*`.

They are decoded once, to arrays that are mapped from disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from harness.data.sources import PHOTOS, Labels, Pixels, Source
from harness.errors import UserError

SPLITS = ("train", "val")
CACHE = ".harness-decoded"
DECODER = "1"
"""Changed when decoding changes pixels, so that older decoded files are not taken."""

CLUTTER = {"thumbs.db", "desktop.ini"}
"""Files that desktops leave behind, in lower case. Hidden files are ignored as well."""

BLOCK_FILES = 1024
"""Files that are decoded ahead of the writer, which bounds the memory."""


class _File(NamedTuple):
    """One file: its name relative to the data set, size in bytes, change time and class position."""

    name: str
    size: int
    changed_ns: int
    label: int


def load_folder(data_root: Path, name: str, size: int, choose: Callable[[Sequence[str]], tuple[str, ...]]) -> Source:
    """A folder of images as RGB arrays of side `size`; `val` is the official test split.

    Each image is resized so that its shorter side fits and cropped to the centre. Files that cannot be
    decoded are left out and named in `Source.unreadable`.

    Args:
        data_root: the folder that holds data sets, or the data set itself.
        name: the data set's folder in `data_root`, or an absolute path.
        size: side of the images in pixels.
        choose: picks the classes from the sorted names of the class folders.

    Raises:
        UserError: a folder is missing, train and val have different classes, or a class has no readable
            image in one of them.
    """
    folder = data_root / name
    if not folder.is_dir() and (data_root / "train").is_dir() and (data_root / "val").is_dir():
        folder = data_root
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist: data.root = '{name}' needs that folder with train/<class>/ and "
            "val/<class>/ in it; put it there, or name the folder that holds it with --data-root or "
            "HARNESS_DATA"
        )
    known = _class_names(folder / "train")
    only = sorted(set(known) ^ set(_class_names(folder / "val")))
    if only:
        where = ", ".join(f"'{c}' only in {'train' if c in known else 'val'}" for c in only[:10])
        more = f" and {len(only) - 10} more" if len(only) > 10 else ""
        raise UserError(f"{folder}: train and val must have the same class folders, but {where}{more}")
    classes = choose(known)
    if len(classes) < 2:
        raise UserError(f"{folder / 'train'}: one class folder ('{classes[0]}'); at least two are needed")
    files = {split: _list(folder, split, classes) for split in SPLITS}
    every = [file for listed in files.values() for file in listed]
    identity = _digest([str(size), *(f"{file.name} {file.size}" for file in every)])
    state = _digest([DECODER, identity, *(str(file.changed_ns) for file in every)])
    cache = _cache_folder(data_root, state)
    unreadable: dict[str, str] = {}
    arrays: list[tuple[Pixels, Labels]] = []
    for split, listed in files.items():
        images, failed = _decoded(folder, listed, size, cache / split)
        labels = np.array([file.label for file in listed if file.name not in failed], dtype=np.int64)
        counts = np.bincount(labels, minlength=len(classes))
        if (counts == 0).any():
            empty = folder / split / classes[int(np.argmin(counts))]
            why = [f" ({n}: {reason})" for n, reason in failed.items() if (folder / n).is_relative_to(empty)]
            raise UserError(
                f"{empty}: no readable image{why[0] if why else ''}; each class needs one in train and in val"
            )
        unreadable |= failed
        arrays.append((images, labels))
    return Source(*arrays[0], *arrays[1], classes, 255, PHOTOS, identity, tuple(unreadable.items()))


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; expected it with one folder of images for each class")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise UserError(f"{folder} has no class folders; expected {folder.name}/<class>/<image files>")
    return names


def _list(folder: Path, split: str, classes: Sequence[str]) -> list[_File]:
    """The files of the classes, at any depth, in an order that does not depend on the file system."""
    files = []
    for label, name in enumerate(classes):
        top = folder / split / name
        for path in sorted(top.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(top).parts)
            if hidden or path.name.lower() in CLUTTER or not path.is_file():
                continue
            stat = path.stat()
            files.append(_File(path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns, label))
    return files


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _cache_folder(data_root: Path, key: str) -> Path:
    """The folder of complete decoded arrays, or a writable one: beside the data, or in the user's cache."""
    bases = (data_root, Path.home() / ".cache" / "harness")
    for base in bases:
        folder = base / CACHE / key
        if (folder / f"{SPLITS[-1]}.npy").is_file():
            return folder
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise UserError(f"decoded images can be written neither to {bases[0]} nor to {bases[1]}; make one of them writable")


def _decoded(folder: Path, files: Sequence[_File], size: int, target: Path) -> tuple[Pixels, dict[str, str]]:
    """The readable files' pixels (N, size, size, 3) in order, mapped from disk, and why others failed."""
    pixels, report = target.with_suffix(".npy"), target.with_suffix(".json")
    if not pixels.is_file():
        failed: dict[str, str] = {}
        try:
            with _atomic(pixels) as stream:
                _write(stream, folder, files, size, failed)
                # The report comes before the pixels, whose presence says that both are complete.
                with _atomic(report) as text:
                    text.write(json.dumps(failed).encode())
        except OSError as error:
            need = len(files) * size * size * 3 / 1e9
            raise UserError(
                f"{pixels} cannot be written ({error.strerror}); the decoded images need {need:.1f} GB there"
            ) from None
    return np.load(pixels, mmap_mode="r"), json.loads(report.read_bytes())


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name only when it is complete."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(stream: IO[bytes], folder: Path, files: Sequence[_File], size: int, failed: dict[str, str]) -> None:
    """Write the readable images as one .npy; files that fail are added to `failed` with the reason."""
    _header(stream, len(files), size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), BLOCK_FILES):
            block = files[start : start + BLOCK_FILES]
            images = pool.map(lambda file: _decode(folder / file.name, size), block)
            for file, image in zip(block, images, strict=True):
                if isinstance(image, str):
                    failed[file.name] = image
                else:
                    stream.write(image.data)
    # NumPy pads the header so that the first axis can be rewritten in place.
    stream.seek(0)
    _header(stream, len(files) - len(failed), size)


def _header(stream: IO[bytes], count: int, size: int) -> None:
    shape = (count, size, size, 3)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _decode(path: Path, size: int) -> Pixels | str:
    """The image as RGB (size, size, 3), or the reason why it cannot be read."""
    try:
        with Image.open(path) as image:
            upright = _to_rgb(ImageOps.exif_transpose(image))
            return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # a broken file can make a decoder raise anything
        return str(error).replace(str(path), path.name) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "transparency" in image.info:  # Pillow warns when a palette with transparency goes straight to RGB
        image = image.convert("RGBA")
    return image.convert("RGB")
