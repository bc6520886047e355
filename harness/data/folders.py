"""Images in files, which a folder or a table names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.data.content import Folder, read_folder
from harness.data.decoded import Failure, place
from harness.data.decoding import Pictures, decode, decoded
from harness.data.disk import shown
from harness.data.listing import SPLITS
from harness.data.rows import Rows
from harness.data.types import PHOTOS, Labels, Pixels, Source
from harness.errors import UserError
from harness.experiment import Data

LOST_SHARE = 0.25
"""The largest share of a class's files in a split that may be left out. Damaged files of a downloaded data set are
fewer than one in a hundred; where a quarter of a class is gone, it is no longer the class that was meant."""


def load_folder(data: Data, data_root: Path) -> Source:
    """A folder or table of images as rows of side `data.image_size`.

    Each image is kept with its aspect and a shorter side of at most `decoded.KEPT` times that. What is evaluated is its
    central square, resized. Files that cannot be decoded are left out and named in `Source.unreadable`.

    Args:
        data: the `[data]` table; root, image_size, classes, window, group and channels matter here.
        data_root: the folder that holds data sets, or the data set itself.

    Raises:
        UserError: a folder is missing, the splits have different classes, more than `LOST_SHARE` of a class cannot
            be read, or files change meanwhile.
    """
    folder = read_folder(data, data_root)
    assert data.image_size is not None  # `Data` asks folders for it
    cache = place(folder.about(data), data_root)
    arrays: list[tuple[Rows, Labels]] = []
    failures = []
    groups: list[str] = []
    for i, split in enumerate(SPLITS):
        rows, failed = decoded(_pictures(folder, i, data), data, cache / split)
        _check_losses(folder, i, failed)
        gone = {position for position, *_ in failed}
        labels = [file.label for position, file in enumerate(folder.splits[i]) if position not in gone]
        arrays.append((rows, np.array(labels, dtype=np.int64)))
        if i == 0 and data.group:
            groups = [file.group for position, file in enumerate(folder.splits[i]) if position not in gone]
        failures.append(failed)
    val, test = (arrays[i] if _has(folder, i) else (None, None) for i in (1, 2))
    return Source(
        train_images=arrays[0][0],
        train_labels=arrays[0][1],
        test_images=test[0],
        test_labels=test[1],
        val_images=val[0],
        val_labels=val[1],
        classes=folder.listing.classes,
        peak=255,
        invariances=PHOTOS._replace(color=data.channels != 1),
        digest=folder.digest,
        unreadable=folder.unreadable(failures),
        notes=folder.notes,
        groups=np.unique(groups, return_inverse=True)[1] if groups else None,
    )


def _has(folder: Folder, split: int) -> bool:
    """Whether a data set has files of a split, be they unreadable."""
    return bool(folder.splits[split]) or any(at == split for at, *_ in folder.lost)


def _check_losses(folder: Folder, split: int, failed: Sequence[Failure]) -> None:
    """Refuse a class that has lost too many of its files in a split, or all, or never had one."""
    files = folder.splits[split]
    if split and not _has(folder, split):
        return
    losses = [(label, f"{path}: {why}") for at, label, path, why in folder.lost if at == split]
    total = Counter(file.label for file in files) + Counter(label for label, _ in losses)
    losses += [(files[position].label, f"{path}: {why}") for position, path, why in failed]
    for label, name in enumerate(folder.listing.classes):
        lost = [line for at, line in losses if at == label]
        where = shown(folder.listing.folder / folder.listing.places[split] / name)
        first = f" ({lost[0]})" if lost else ""
        if len(lost) == total[label]:
            raise UserError(f"{where}: no readable image{first}; each class needs one in every split")
        if len(lost) > LOST_SHARE * total[label]:
            raise UserError(
                f"{where}: {len(lost)} of {total[label]} files cannot be read{first}; at most {LOST_SHARE:.0%} of a "
                "class may be left out: bring these files back, or delete them if it is meant to be without them"
            )


def _pictures(folder: Folder, split: int, data: Data) -> Pictures:
    """The files of a split."""
    top, files, sha256 = folder.listing.folder, folder.splits[split], folder.sha256[split]
    size, channels = data.image_size or 0, data.channels or 3

    def of(i: int) -> Pixels | str:
        return decode(top / files[i].name, sha256[i], size, data.window, channels)

    return Pictures([file.name for file in files], of)
