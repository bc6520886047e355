"""Data sets that code gives, image by image or as arrays: functions of the user's and libraries of data sets.

Each split has labels, groups where images have them, and a mark of each image, by which the content is told. Square
bytes stay arrays. Everything else is decoded once, into the copy that all runs share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.decoded import DECODER, About, pillow, place
from harness.data.decoding import Pictures, decoded, pixels_of
from harness.data.leaks import leak_of
from harness.data.listing import SPLITS, choose_classes, natural
from harness.data.rows import Rows
from harness.data.types import PHOTOS, Labels, Pixels, Source
from harness.errors import UserError
from harness.experiment import Data


@dataclass(frozen=True, eq=False)
class Split:
    """The images of a split. labels: of each, a name or a number. marks: of each, what is equal exactly when its
    content is. image: the one at a position. array: all at once, uint8 (N, side, side, channels), where they are that.
    groups: of each, what it shares with others; None where nothing is known.
    """

    labels: Sequence[Any]
    marks: Sequence[str]
    image: Callable[[int], Any]
    array: Pixels | None = None
    groups: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Given:
    """A data set by splits, of which train is one. classes: in the order of the labels. labels: positions of each.
    leak: as `leaks.leak_of` says it.
    """

    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    labels: Mapping[str, Labels]
    groups: Labels | None
    digest: str
    leak: str

    @property
    def images(self) -> int:
        """How many there are in all splits."""
        return sum(map(len, self.labels.values()))


def given(data: Data, splits: Mapping[str, Split], names: Sequence[str] | None, what: str) -> Given:
    """The chosen classes of what code gave, after it was looked at.

    Args:
        data: the `[data]` table.
        splits: by the names of `SPLITS`.
        names: of the classes, where labels are numbers.
        what: begins the sentence of an error.

    Raises:
        UserError: labels are of two kinds or out of range, a class has no image to train on, or a group is in two
            splits.
    """
    known, numbers = _numbered(splits, names, what)
    classes = choose_classes(data.classes, known)
    if len(classes) < 2:
        raise UserError(f"{what}: one class ('{classes[0]}'); at least two are needed")
    place_of = np.full(len(known), -1)
    place_of[[known.index(name) for name in classes]] = np.arange(len(classes))
    labels = {split: place_of[found] for split, found in numbers.items()}
    kept = {split: np.flatnonzero(found >= 0) for split, found in labels.items()}
    splits = {split: _at(part, kept[split]) for split, part in splits.items()}
    labels = {split: found[kept[split]] for split, found in labels.items()}
    missing = sorted(set(range(len(classes))) - set(labels["train"].tolist()))
    if missing:
        raise UserError(
            f"{what}: class '{classes[missing[0]]}' has no image in train; each class needs one to train on"
        )
    check_groups(splits, what)
    digest = hashlib.sha256(repr((DECODER, "given", classes)).encode())
    for split in SPLITS:
        if split in splits:
            part = splits[split]
            groups = part.groups or [""] * len(part.marks)
            lines = map(" ".join, zip(map(str, labels[split]), part.marks, groups, strict=True))
            digest.update("\n".join(["", split, *lines]).encode())
    told = splits["train"].groups
    numbered = np.unique(list(told), return_inverse=True)[1].astype(np.int64) if told else None
    marks = [splits[s].marks if s in splits else () for s in SPLITS]
    return Given(splits, classes, labels, numbered, digest.hexdigest()[:16], leak_of(marks, told))


def check_groups(splits: Mapping[str, Split], what: str) -> None:
    """Refuse groups that are in two splits.

    Raises:
        UserError: one is.
    """
    for one, other in combinations([split for split in SPLITS if split in splits], 2):
        both = sorted(set(splits[one].groups or ()) & set(splits[other].groups or ()))
        if both:
            raise UserError(
                f"{what}: {len(both)} groups ({', '.join(both[:5])}) have images in {one} and in {other}, so the "
                f"{other} would leak; put all images of each into one split"
            )


def given_source(found: Given, data: Data, data_root: Path, what: str) -> Source:
    """The images of a data set that code gave, as arrays or as rows of the shared copy.

    Raises:
        UserError: they need `data.image_size` and it is missing, or an image cannot be used.
    """
    arrays = {split: part.array for split, part in found.splits.items() if part.array is not None}
    shapes = {array.shape[1:] for array in arrays.values()}
    images: Mapping[str, Pixels | Rows] = arrays
    channels = shapes.copy().pop()[2] if len(shapes) == 1 else None
    if len(arrays) < len(found.splits) or channels is None or data.channels not in (None, channels):
        images, channels = _decoded(found, data, data_root, what), data.channels or 3
    held: dict[str, Any] = {}
    for split in SPLITS:
        held[f"{split}_images"], held[f"{split}_labels"] = images.get(split), found.labels.get(split)
    return Source(
        **held,
        classes=found.classes,
        peak=255,
        invariances=PHOTOS._replace(color=channels == 3),
        digest=found.digest,
        groups=found.groups,
    )


def _decoded(found: Given, data: Data, data_root: Path, what: str) -> dict[str, Pixels | Rows]:
    if data.image_size is None:
        raise UserError(f"{what}: its images are not all square bytes of one size; say data.image_size, in pixels")
    about = About(
        what, found.classes, found.digest, data.image_size, data.window, pillow=pillow(), channels=data.channels or 3,
        kind=data.name,
    )  # fmt: skip
    cache = place(about, data_root)
    images: dict[str, Pixels | Rows] = {}
    nothing = Split([], [], lambda i: None)
    for split in SPLITS:
        part = found.splits.get(split, nothing)
        names = [f"{split} {i}" for i in range(len(part.labels))]
        rows, failed = decoded(Pictures(names, _reader(part, data), alone=True), data, cache / split)
        if failed:
            _, name, why = failed[0]
            raise UserError(f"{what}: image {name} cannot be used: {why}")
        if split in found.splits:
            images[split] = rows
    return images


def _reader(part: Split, data: Data) -> Callable[[int], Pixels | str]:
    def read(i: int) -> Pixels | str:
        try:
            return pixels_of(as_image(part.image(i)), data.window, data.channels or 3, data.image_size or 0)
        except ValueError as error:
            return str(error)

    return read


def as_image(value: Any) -> Image.Image:
    """An image of somebody else's as Pillow's: of Pillow, an array (H, W[, C]) or a tensor ([C, ]H, W).

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, Image.Image):
        return value
    array = np.asarray(value)
    if array.ndim == 3 and type(value).__module__.partition(".")[0] == "torch":
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        return Image.fromarray(np.ascontiguousarray(array))
    if array.ndim == 2 and array.dtype.kind in "uif":
        return Image.fromarray(array.astype(np.float32))
    raise ValueError(
        f"{type(value).__name__} of {array.dtype} and shape {array.shape}; an image is one of Pillow, bytes (H, W) or "
        "(H, W, 3), or grey values (H, W) with data.window; a tensor has its channels first"
    )


def mark_of(value: Any) -> str:
    """sha256 of an image's pixels, mode and shape, in hex.

    Raises:
        ValueError: it is no image.
    """
    if isinstance(value, Image.Image):
        head, body = f"{value.mode} {value.size}", value.tobytes()
    else:
        array = np.asarray(value)
        if array.dtype.kind not in "uif":
            raise ValueError(f"{type(value).__name__} of {array.dtype} is no image")
        head, body = f"{array.dtype} {array.shape}", np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(head.encode() + body).hexdigest()


def _at(part: Split, index: NDArray[np.int64]) -> Split:
    """The images at some positions."""
    if len(index) == len(part.labels):
        return part
    image = part.image
    return Split(
        [part.labels[i] for i in index],
        [part.marks[i] for i in index],
        lambda i: image(int(index[i])),
        None if part.array is None else part.array[index],
        None if part.groups is None else [part.groups[i] for i in index],
    )


def _numbered(
    splits: Mapping[str, Split], names: Sequence[str] | None, what: str
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """The names of the classes, and the labels of each split as positions among them."""
    values = {split: [_plain(label) for label in part.labels] for split, part in splits.items()}
    empty = [split for split, found in values.items() if not found]
    if empty:
        raise UserError(f"{what}: {empty[0]} has no image; leave a split out that has none")
    kinds = {type(label) for found in values.values() for label in found}
    if kinds == {str}:
        seen = {label for found in values.values() for label in found}
        order = {name: i for i, name in enumerate(names or sorted(seen, key=natural))}
        if seen - set(order):
            raise UserError(f"{what}: label '{min(seen - set(order))}' is none of its classes: {', '.join(order)}")
        return tuple(order), {s: np.array([order[label] for label in found]) for s, found in values.items()}
    if kinds != {int}:
        told = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(f"{what}: labels are {told}; they must all be whole numbers from 0, or all names")
    count = len(names) if names is not None else max(values["train"]) + 1
    numbers = {split: np.array(found, dtype=np.int64) for split, found in values.items()}
    for split, found in numbers.items():
        if found.min() < 0 or found.max() >= count:
            wrong = found.min() if found.min() < 0 else found.max()
            raise UserError(f"{what}: {split} has the label {wrong}, and there are {count} classes, counted from 0")
    return tuple(names if names is not None else map(str, range(count))), numbers


def _plain(label: Any) -> Any:
    """A label of NumPy or torch as Python's."""
    return label.item() if hasattr(label, "item") else label
