"""Torchvision's data sets by name: where it looks for their files, which splits they have, and what to do without.

Those of image files are listed and decoded as folders are; those of arrays are read by torchvision.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Mapping
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data.disk import TIMEOUT_SECONDS, shown
from harness.data.given import Given, Split, given, mark_of
from harness.data.listing import SPLITS, Facts, File, Listing, Lost, choose_classes
from harness.errors import UserError
from harness.experiment import Data


class Kind(NamedTuple):
    """A data set of torchvision. expected: what lies in the data root. splits: arguments of its class for each."""

    expected: str
    splits: Mapping[str, Mapping[str, Any]]


def _by_split(**names: str) -> dict[str, dict[str, Any]]:
    return {split: {"split": name} for split, name in names.items()}


KINDS = {
    "FashionMNIST": Kind(
        "FashionMNIST/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
        "t10k-labels-idx1-ubyte",
        {"train": {"train": True}, "test": {"train": False}},
    ),
    "SVHN": Kind("train_32x32.mat and test_32x32.mat", _by_split(train="train", test="test")),
    "STL10": Kind(
        "stl10_binary/ with train_X.bin, train_y.bin, test_X.bin, ...", _by_split(train="train", test="test")
    ),
    "DTD": Kind(
        "dtd/dtd/ with images/<class>/*.jpg and labels/train1.txt, val1.txt, test1.txt, ...",
        _by_split(train="train", val="val", test="test"),
    ),
    "EuroSAT": Kind("eurosat/2750/<class>/*.jpg", {"train": {}}),
    "Food101": Kind(
        "food-101/ with images/<class>/*.jpg and meta/train.json, meta/test.json",
        _by_split(train="train", test="test"),
    ),
    "OxfordIIITPet": Kind(
        "oxford-iiit-pet/ with images/*.jpg and annotations/trainval.txt, annotations/test.txt",
        _by_split(train="trainval", test="test"),
    ),
    "Flowers102": Kind(
        "flowers-102/ with jpg/*.jpg, imagelabels.mat and setid.mat", _by_split(train="train", val="val", test="test")
    ),
}
"""By torchvision's name."""


def load_builtin(data: Data, data_root: Path) -> Given:
    """A data set of arrays. Its digest is of the arrays, wherever they come from.

    Raises:
        UserError: files are missing or damaged, or `data.args` are none that the class takes.
    """
    return _load(data.images, data_root, data.download)


@lru_cache(maxsize=2)
def _load(data: Data, data_root: Path, download: bool) -> Given:
    parts = _parts(data, data_root, download)
    splits: dict[str, Split] = {}
    for split, part in parts.items():
        array = np.asarray(part.data)
        if array.ndim == 4 and array.shape[1] == 3:  # SVHN and STL10 have channels first
            array = array.transpose(0, 2, 3, 1)
        array = np.ascontiguousarray(array.reshape(*array.shape[:3], -1))
        splits[split] = Split(
            [int(label) for label in _labels(part)], [mark_of(image) for image in array], array.__getitem__, array
        )
    return given(data, splits, getattr(parts["train"], "classes", None), f"data.name = '{data.name}'")


def list_builtin(data: Data, data_root: Path) -> Listing:
    """The files of a data set of images.

    Raises:
        UserError: as `load_builtin`, or a class does not exist.
    """
    parts = _parts(data, data_root, data.download)
    labels = {split: _labels(part) for split, part in parts.items()}
    known = getattr(parts["train"], "classes", None) or [str(i) for i in range(max(map(max, labels.values())) + 1)]
    classes = choose_classes(data.classes, list(known))
    files: dict[str, list[File]] = {split: [] for split in SPLITS}
    lost: list[Lost] = []
    for split, part in parts.items():
        for path, label in zip(_paths(part), labels[split], strict=True):
            if known[label] not in classes:
                continue
            name, at = os.path.relpath(path, data_root), classes.index(known[label])
            try:
                facts = os.stat(path)
            except OSError as error:
                lost.append((SPLITS.index(split), at, shown(name), error.strerror or type(error).__name__))
                continue
            told = Facts(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
            files[split].append(File(name, told, at))
    return Listing(data_root, classes, tuple(tuple(files[split]) for split in SPLITS), tuple(lost), ())


def _parts(data: Data, data_root: Path, download: bool) -> dict[str, Any]:
    """Torchvision's data set of each split."""
    from torchvision import datasets

    name = data.name.partition("/")[2]
    kind, args = KINDS[name], dict(data.args)
    default = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(TIMEOUT_SECONDS)  # torchvision sets none and would wait for ever
        with contextlib.redirect_stdout(sys.stderr):
            return {
                split: getattr(datasets, name)(data_root, download=download, **{**at, **args})
                for split, at in kind.splits.items()
            }
    except (TypeError, ValueError) as error:
        raise UserError(f"data.name = '{data.name}' with data.args = {args}: torchvision says: {error}") from None
    except (RuntimeError, OSError, HTTPException) as error:
        todo = (
            "the download that data.download = true allows failed"
            if download
            else "put it there, name the folder that holds it with --data-root or HARNESS_DATA, or say download = true "
            "in [data], which lets torchvision fetch it"
        )
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"data.name = '{data.name}': torchvision expects {kind.expected} in {shown(data_root)} and says: {said}; "
            f"{todo}"
        ) from None
    finally:
        socket.setdefaulttimeout(default)


def _labels(part: Any) -> list[int]:
    """The labels of a data set of torchvision, which calls them differently."""
    found = next(getattr(part, name) for name in ("targets", "labels", "_labels") if hasattr(part, name))
    return [int(label) for label in found]


def _paths(part: Any) -> list[Any]:
    """The files of its images."""
    if hasattr(part, "samples"):
        return [path for path, _ in part.samples]
    return list(getattr(part, "_image_files", None) or part._images)
