"""Data sets as arrays: the bundled digits, CIFAR-10 and CIFAR-100, and folders of images.

A source is loaded once per process and shared by every training in it, so its arrays are never written.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from harness.data.arrays import npz_digest, read_npz
from harness.data.cifar import load_cifar
from harness.data.content import code_of, content, digits_digest, read_digits
from harness.data.folders import load_folder
from harness.data.given import given_source
from harness.data.hashes import changed
from harness.data.labels import read_labels, with_labels
from harness.data.listing import SPLITS, choose_classes
from harness.data.rows import rows_of
from harness.data.types import DIGITS, PHOTOS, Labels, Pixels, Source
from harness.errors import UserError
from harness.experiment import Data

RESIZE_IMAGES = 1000
"""Images that are resized at once, which bounds the memory of their floating-point copy."""


def load_source(data: Data, data_root: Path) -> Source:
    """Load the data set that `data` names, with its classes chosen and its images resized.

    It is loaded again when its content has changed since.

    Args:
        data: the `[data]` table; only what `Data.images` keeps matters here.
        data_root: the folder that holds data sets.

    Raises:
        UserError: files are missing or damaged or change while they are read, or a class does not exist.
    """
    asked = data.images
    return _load(asked, content(asked, data_root).digest, data_root)


@lru_cache(maxsize=4)
def _load(data: Data, digest: str, data_root: Path) -> Source:
    if data.from_files:
        source = load_folder(data, data_root)
    elif (of_code := code_of(data)) is not None:
        found = given_source(of_code(data, data_root), data, data_root, f"data.name = '{data.name}'")
        source = _resize(found, data.image_size)
    else:
        if data.name == "npz":
            whole = _arrays(data, data_root)
        else:
            whole = _digits() if data.name == "digits" else load_cifar(data.name, data_root)
        source = _resize(_keep(whole, choose_classes(data.classes, whole.classes)), data.image_size)
    if data.labels is not None:
        said = read_labels(data, data_root, source.classes, len(source.train_labels))
        source = replace(source, said_labels=said, digest=with_labels(source.digest, data, data_root))
    if source.digest != digest:
        raise UserError(
            f"data set {data.name}: its files changed while they were read; start again when it is complete"
        )
    return source


def _digits() -> Source:
    table = read_digits()
    rows = np.loadtxt(io.BytesIO(gzip.decompress(table)), delimiter=",")
    return Source(
        train_images=rows[:, :-1].reshape(-1, 8, 8, 1).astype(np.uint8),
        train_labels=rows[:, -1].astype(np.int64),
        test_images=None,
        test_labels=None,
        classes=tuple(str(digit) for digit in range(10)),
        peak=16,
        invariances=DIGITS,
        digest=digits_digest(table),
    )


def _arrays(data: Data, data_root: Path) -> Source:
    digest, parts = npz_digest(data, data_root), read_npz(data, data_root)
    if npz_digest(data, data_root) != digest:
        raise changed(data_root / (data.root or ""))
    images, labels = parts["train"]
    val, test = (parts.get(name, (None, None)) for name in ("val", "test"))
    return Source(
        train_images=images,
        train_labels=labels,
        test_images=test[0],
        test_labels=test[1],
        val_images=val[0],
        val_labels=val[1],
        classes=tuple(map(str, range(int(labels.max()) + 1))),
        peak=255,
        invariances=PHOTOS._replace(color=images.shape[3] == 3),
        digest=digest,
    )


def _keep(source: Source, classes: tuple[str, ...]) -> Source:
    """The source with only these classes, relabelled by their position."""
    if classes == source.classes:
        return source
    new_label = np.full(len(source.classes), -1)
    new_label[[source.classes.index(name) for name in classes]] = np.arange(len(classes))

    def chosen(images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
        labels = new_label[labels]
        return images[labels >= 0], labels[labels >= 0]

    return replace(_map(source, chosen), classes=classes)


def _resize(source: Source, size: int | None) -> Source:
    """The source at another image side, antialiased bilinear."""
    if size is None or size == rows_of(source.train_images).side:
        return source

    def resized(images: Pixels, labels: Labels) -> tuple[Pixels, Labels]:
        out = np.empty((len(images), size, size, images.shape[3]), np.uint8)
        for start in range(0, len(images), RESIZE_IMAGES):
            # In floating point: on bytes, torch rounds after each axis, which shows when 16 is white.
            pixels = torch.from_numpy(images[start : start + RESIZE_IMAGES]).permute(0, 3, 1, 2).float()
            part = interpolate(pixels, size=(size, size), mode="bilinear", antialias=True).round()
            out[start : start + RESIZE_IMAGES] = part.permute(0, 2, 3, 1).numpy()
        return out, labels

    return _map(source, resized)


def _map(source: Source, change: Callable[[Pixels, Labels], tuple[Pixels, Labels]]) -> Source:
    """The source with its arrays changed, of which it must be made."""
    changed: dict[str, Any] = {}
    for split in SPLITS:
        images, labels = getattr(source, f"{split}_images"), getattr(source, f"{split}_labels")
        if images is not None:
            changed[f"{split}_images"], changed[f"{split}_labels"] = change(images, labels)
    return replace(source, **changed)
