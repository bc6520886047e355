"""Data of the user's: a function of a file, or of an installed package in the group `harness.datasets`.

It is called as `load(root=PATH, **data.args)`, once in a process, where the path is `data.root` in the data root. It
gives all images to split, or a mapping with "train", and "val" and "test" where these are fixed, and perhaps "classes",
their names. Images are a tuple of arrays (images, labels[, groups]), or anything with a length whose items are
(image, label[, group]), such as a data set of torch. What is drawn at random in it makes other images each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness import plugins
from harness.data.disk import expand
from harness.data.given import Given, Split, given, mark_of
from harness.data.listing import SPLITS
from harness.errors import UserError, did_you_mean
from harness.experiment import Data


def load_own(data: Data, data_root: Path) -> Given:
    """What the function named by `data.name` gives; it is called anew when its code has changed.

    Raises:
        UserError: there is no such function, it fails, or what it gives cannot be used.
    """
    return _load(data.images, data_root, plugins.digest_of(plugins.DATASETS, data.name, "data.name"))


@lru_cache(maxsize=2)
def _load(data: Data, data_root: Path, code: str) -> Given:
    what = f"data.name = '{data.name}'"
    part = plugins.part(plugins.DATASETS, data.name, "data.name")
    if part is None:
        raise UserError(f"{what}: no installed package has it in the group {plugins.DATASETS}")
    root, args = data_root / expand(data.root or ""), dict(data.args)
    try:
        found = part.value(root=root, **args)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what}: called with root={str(root)!r} and args {args}, it fails: {plugins.complaint(error)}"
        ) from None
    return check(found, data, what)


def check(found: Any, data: Data, what: str) -> Given:
    """What a function of somebody else gave, as splits.

    Args:
        found: what it gave.
        data: the `[data]` table.
        what: begins the sentence of an error.

    Raises:
        UserError: it cannot be used.
    """
    parts = dict(found) if isinstance(found, Mapping) else {"train": found}
    names = parts.pop("classes", None)
    if names is None:
        names = getattr(parts.get("train"), "classes", None)
    for key in parts:
        if key not in SPLITS:
            raise UserError(
                f"{what}: it gives '{key}'{did_you_mean(str(key), SPLITS)} It may give: {', '.join(SPLITS)}"
            )
    if "train" not in parts:
        raise UserError(f"{what}: it gives {', '.join(parts) or 'nothing'} and no 'train'")
    splits = {split: _split(part, f"{what}, {split}") for split, part in parts.items()}
    return given(data, splits, None if names is None else [str(name) for name in names], what)


def _split(part: Any, what: str) -> Split:
    if isinstance(part, tuple) and len(part) in (2, 3):
        return of_arrays(part[0], part[1], part[2] if len(part) == 3 else None, what)
    if hasattr(part, "__len__") and hasattr(part, "__getitem__") and not isinstance(part, str | Mapping):
        return _of_items(part, what)
    raise UserError(
        f"{what}: a {type(part).__name__}; it must be arrays (images, labels[, groups]) or have a length and items "
        "(image, label[, group])"
    )


def of_arrays(images: Any, labels: Any, groups: Any, what: str) -> Split:
    """Images (N, H, W[, C]), or a list of images of any sizes, with labels (N,) and groups (N,) or None.

    Raises:
        UserError: the lengths differ, or something is no image.
    """
    found = list(np.asarray(labels).reshape(-1).tolist())
    sizes = {"images": len(images), "labels": len(found)} | ({} if groups is None else {"groups": len(groups)})
    if len(set(sizes.values())) > 1:
        raise UserError(f"{what}: {', '.join(f'{n} {name}' for name, n in sizes.items())}; each image needs one")
    array = np.asarray(images) if hasattr(images, "shape") else None
    try:
        marks = [mark_of(image) for image in (images if array is None else array)]
    except ValueError as error:
        raise UserError(f"{what}: {error}") from None
    square = None
    if array is not None and array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[1] == array.shape[2]:
        square = array[..., None] if array.ndim == 3 else array
        square = square if square.shape[3] in (1, 3) else None
    told = None if groups is None else [str(group) for group in groups]
    return Split(found, marks, (images if array is None else array).__getitem__, square, told)


def _of_items(part: Sequence[Any], what: str) -> Split:
    """A data set that is read item by item, of which the images are not kept."""
    labels, marks, groups = [], [], []
    for i in range(len(part)):
        try:
            item = part[i]
        except Exception as error:
            raise UserError(f"{what}: item {i} fails: {plugins.complaint(error)}") from None
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            raise UserError(f"{what}: item {i} is a {type(item).__name__}; items are (image, label[, group])")
        try:
            marks.append(mark_of(item[0]))
        except ValueError as error:
            raise UserError(f"{what}: item {i}: {error}") from None
        labels.append(item[1])
        groups += [str(group) for group in item[2:]]
    if groups and len(groups) < len(labels):
        raise UserError(f"{what}: {len(groups)} of {len(labels)} items have a group; all or none must")

    def image(i: int) -> Any:
        value = part[i][0]
        if mark_of(value) != marks[i]:
            raise UserError(f"{what}: item {i} is another image the second time; draw nothing at random there")
        return value

    return Split(labels, marks, image, groups=groups or None)
