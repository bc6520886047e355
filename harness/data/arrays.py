"""Images in one .npz file, with the keys of MedMNIST: train_images, train_labels, and the same of val and test.

The file is read as it is: no pickle, and so no code. Images are (N, H, H) or (N, H, H, C) of bytes, labels whole
numbers from 0. Images of val or of test are that split; where there are none, they are drawn from train.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data.disk import expand, shown
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


def npz_digest(data: Data, data_root: Path) -> str:
    """16 hex digits of the file's bytes, and of whether it has a validation split.

    Before that was a split of its own, its images were drawn from like those of train.

    Raises:
        UserError: it cannot be read.
    """
    path = data_root / expand(data.root or "")
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        with zipfile.ZipFile(path) as file:
            own = "val_images.npy" in file.namelist()
        return hashlib.sha256(f"own val {digest}".encode()).hexdigest()[:16] if own else digest[:16]
    except zipfile.BadZipFile as error:
        raise _unreadable(path, error) from None
    except OSError as error:
        raise UserError(
            f"{shown(path)} cannot be read ({error.strerror}): data.root names the file of an npz data set; name the "
            "folder that holds it with --data-root or HARNESS_DATA"
        ) from None


def read_npz(data: Data, data_root: Path) -> dict[str, Part]:
    """Of train, and of val and test if the file has them: images (N, H, H, C) and labels (N,).

    Raises:
        UserError: the file is damaged or lacks an array, or one has another shape or type.
    """
    path = data_root / expand(data.root or "")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise _unreadable(path, error) from None
    parts = {name: _part(path, arrays, name) for name in ("train", "val", "test") if f"{name}_images" in arrays}
    if "train" not in parts:
        near = did_you_mean("train_images", arrays)
        raise UserError(f"{shown(path)}: no array train_images{near} It has: {', '.join(arrays) or 'none'}")
    shapes = {name: part[0].shape[1:] for name, part in parts.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"{shown(path)}: the images of its splits have different shapes: {shapes}")
    labels = parts["train"][1]
    classes = int(labels.max()) + 1
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing or classes < 2:
        raise UserError(
            f"{shown(path)}: train_labels are 0 to K - 1 with an image of each, and {missing or [1]} have none"
        )
    for name, (_, held) in parts.items():
        if held.max() >= classes:
            raise UserError(f"{shown(path)}: {name}_labels has {held.max()}, of which there is no image to train on")
    return parts


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{shown(path)} cannot be read as .npz without pickle: {str(error).splitlines()[0]}")


def _part(path: Path, arrays: dict[str, NDArray[np.generic]], name: str) -> Part:
    images, labels = arrays[f"{name}_images"], arrays.get(f"{name}_labels")
    if labels is None:
        raise UserError(f"{shown(path)}: it has {name}_images and no {name}_labels")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.dtype != np.uint8:
        raise UserError(
            f"{shown(path)}: {name}_images is {images.dtype} of shape {images.shape}; images are uint8 and square, (N, "
            "H, H) or (N, H, H, C)"
        )
    if labels.shape not in ((len(images),), (len(images), 1)) or labels.dtype.kind not in "iu" or not len(labels):
        raise UserError(
            f"{shown(path)}: {name}_labels is {labels.dtype} of shape {labels.shape}; it needs one whole number for "
            f"each of the {len(images)} images"
        )
    flat = labels.astype(np.int64).reshape(-1)
    if flat.min() < 0:
        raise UserError(f"{shown(path)}: {name}_labels has {flat.min()}; labels count from 0")
    return images.astype(np.uint8), flat
