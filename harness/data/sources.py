"""Data sets as arrays: the bundled digits, CIFAR-10 and CIFAR-100, and folders of images.

A source is loaded once per process and shared by every training in it, so its arrays are never written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from harness.errors import UserError, did_you_mean
from harness.experiment import Data
from harness.tricks.contract import Invariances

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

DIGITS = Invariances(flip=False, shift=0.125, rotation=10.0, color=False)
PHOTOS = Invariances(flip=True, shift=0.125, rotation=15.0, color=True)

RESIZE_IMAGES = 1000
"""Images that are resized at once, which bounds the memory of their floating-point copy."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is split.

    train_images, test_images: (N, H, W, C), where `peak` is white; they may be read-only memory maps.
    train_labels, test_labels: (N,), positions in `classes`. The test arrays are None when the data set has
    no official test split. digest: 16 hex digits that identify the data. unreadable: the files that were
    left out, each with the reason.
    """

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels | None
    test_labels: Labels | None
    classes: tuple[str, ...]
    peak: int
    invariances: Invariances
    digest: str
    unreadable: tuple[tuple[str, str], ...] = ()


def data_root() -> Path:
    """The folder that holds data sets: the environment variable HARNESS_DATA, or ~/.cache/harness.

    A user without a home (some containers) has it in the current folder.
    """
    home = os.path.expanduser("~")
    return Path(os.environ.get("HARNESS_DATA") or Path("" if home == "~" else home, ".cache", "harness"))


def load_source(data: Data, data_root: Path) -> Source:
    """Load the data set that `data` names, with its classes chosen and its images resized.

    Args:
        data: the `[data]` table; only name, root, classes and image_size matter here.
        data_root: the folder that holds data sets.

    Raises:
        UserError: files are missing or damaged, or a class does not exist.
    """
    return _load(data.name, data.root, data.classes, data.image_size, data_root)


@lru_cache(maxsize=4)
def _load(
    name: str,
    folder: str | None,
    classes: int | tuple[str, ...] | None,
    size: int | None,
    data_root: Path,
) -> Source:
    if folder is not None and size is not None:  # which `Data` grants to folders, and root to no other
        from harness.data.folders import load_folder

        return load_folder(data_root, folder, size, lambda known: choose_classes(classes, known))
    if name == "digits":
        source = _digits()
    else:
        from harness.data.cifar import load_cifar

        source = load_cifar(name, data_root)
    return _resize(_keep(source, choose_classes(classes, source.classes)), size)


def choose_classes(wanted: int | tuple[str, ...] | None, known: Sequence[str]) -> tuple[str, ...]:
    """The first `wanted` of the known classes, or the named ones in the order of naming, or all.

    Raises:
        UserError: more classes than there are, an unknown name, or a name given twice.
    """
    if wanted is None:
        return tuple(known)
    if isinstance(wanted, int):
        if wanted > len(known):
            raise UserError(f"data.classes = {wanted}: the data set has {len(known)} classes; ask for at most that")
        return tuple(known[:wanted])
    for name in wanted:
        if name not in known:
            raise UserError(f"data.classes: unknown class '{name}'{did_you_mean(name, known)} Known: {_some(known)}")
        if wanted.count(name) > 1:
            raise UserError(f"data.classes: '{name}' is named twice; name each class once")
    return wanted


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _digits() -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return in_memory(
        train=(bunch.images.astype(np.uint8)[..., None], bunch.target.astype(np.int64)),
        test=None,
        classes=tuple(str(digit) for digit in range(10)),
        peak=16,
        invariances=DIGITS,
    )


def in_memory(
    train: tuple[Pixels, Labels],
    test: tuple[Pixels, Labels] | None,
    classes: tuple[str, ...],
    peak: int,
    invariances: Invariances,
) -> Source:
    """A source of arrays in memory, identified by all their bytes."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for array in (*train, *(test or ())):
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    test_images, test_labels = test or (None, None)
    return Source(*train, test_images, test_labels, classes, peak, invariances, digest.hexdigest()[:16])


def _keep(source: Source, classes: tuple[str, ...]) -> Source:
    """The source with only these classes, relabelled by their position."""
    if classes == source.classes:
        return source
    new_label = np.full(len(source.classes), -1)
    new_label[[source.classes.index(name) for name in classes]] = np.arange(len(classes))

    def chosen(images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
        labels = new_label[labels]
        return images[labels >= 0], labels[labels >= 0]

    return _map(source, classes, chosen)


def _resize(source: Source, size: int | None) -> Source:
    """The source at another image side, antialiased bilinear."""
    if size is None or size == source.train_images.shape[1]:
        return source

    def resized(images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
        out = np.empty((len(images), size, size, images.shape[3]), np.uint8)
        for start in range(0, len(images), RESIZE_IMAGES):
            # In floating point: on bytes, torch rounds after each axis, which shows when 16 is white.
            pixels = torch.from_numpy(images[start : start + RESIZE_IMAGES]).permute(0, 3, 1, 2).float()
            part = interpolate(pixels, size=(size, size), mode="bilinear", antialias=True).round()
            out[start : start + RESIZE_IMAGES] = part.permute(0, 2, 3, 1).numpy()
        return out, labels

    return _map(source, source.classes, resized)


def _map(source: Source, classes: tuple[str, ...], change: Callable[[Pixels, Labels], tuple[Pixels, Labels]]) -> Source:
    test = None
    if source.test_images is not None and source.test_labels is not None:
        test = change(source.test_images, source.test_labels)
    train = change(source.train_images, source.train_labels)
    return in_memory(train, test, classes, source.peak, source.invariances)
