"""Where the splits of a folder of images lie; if nowhere, what it holds instead, and what to rename."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from harness.data.disk import shown
from harness.errors import did_you_mean

NAMES = {
    "train": {"train", "training", "trainset", "train_set", "train-set"},
    "val": {"val", "valid", "validation", "valset", "val_set", "dev", "eval"},
    "test": {"test", "testing", "testset", "test_set"},
}
"""Names that people give to the splits, in lower case."""

LAYOUTS = (("train", "val", "test"), ("train", "", "test"), ("train", "", "val"))
"""Folders of the training, validation and test split; where one of the latter two lies beside train, it is the test."""

FLAT = ("", "", "")
"""Class folders with no splits above them."""

TABLES = (".csv", ".tsv", ".xlsx", ".parquet")
LOOK_AT = 10_000
"""Entries of a folder that are looked at, so that a flat folder of a million images is described at once."""


def layout_of(folder: Path) -> tuple[str, str, str] | None:
    """The folder of each split inside `folder`, empty for one that it lacks; None where it is no data set.

    In a flat one, class folders are the first thing in it, and all images are to split. A folder `test` without class
    folders, such as that of a challenge, is passed over where there is `val`; a split by another name is not.
    """
    folders, _ = _inside(folder)
    named = {name for name in folders if any(name.lower() in names for names in NAMES.values())}
    splits = {name for name in named if name != "test" or "val" not in named or _inside(folder / name)[0]}
    for layout in LAYOUTS:
        if splits == {split for split in layout if split}:
            return layout
    some = folders[:3]
    if named or len(folders) < 2:
        return None
    if any((folder / name / "train").is_dir() for name in some) or not any(_inside(folder / n)[1] for n in some):
        return None
    return FLAT


def near_miss(folder: Path, data_root: Path) -> str:
    """What is there in place of `folder`'s splits, as the end of a sentence: empty, or "; " and what to do.

    Args:
        folder: where the data set is expected, which may not exist.
        data_root: the folder in which it was looked for.
    """
    return shown(_near_miss(folder, data_root))


def _near_miss(folder: Path, data_root: Path) -> str:
    if folder.is_dir():
        return _describe(folder)
    if data_root.name.lower() in set().union(*NAMES.values()) and (data_root.parent / "train").is_dir():
        return f"; {data_root} is one of its splits: name {data_root.parent} in its place"
    folders, _ = _inside(data_root)
    if any(name.lower() in NAMES["train"] for name in folders):
        return _describe(data_root)
    return did_you_mean(folder.name, folders).rstrip(".") or _describe(data_root)


def _describe(folder: Path) -> str:
    folders, files = _inside(folder)
    there = {split: [name for name in folders if name.lower() in names] for split, names in NAMES.items()}
    twice = next((found for found in there.values() if len(found) > 1), None)
    if twice:
        return f"; {folder} has {' and '.join(twice)} for one split: keep one"
    renames = [f"rename '{found[0]}' to '{split}'" for split, found in there.items() if found and split not in found]
    if renames:
        have = ", ".join(f"'{name}'" for found in there.values() for name in found)
        return f"; {folder} has {have}: {' and '.join(renames)}"
    if any(there.values()):
        return ""
    for name in folders:
        if (folder / name / "train").is_dir():
            return f"; the data set lies in {folder / name}: name that folder"
    tables = [name for name in files if name.lower().endswith(TABLES)]
    if tables:
        return (
            f"; {folder} has a table, {tables[0]}: if it lists the images (columns path and label), say "
            f"data.name = csv and data.root = {folder.name}/{tables[0]}"
        )
    return ""


def _inside(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, hidden ones left out; none when it cannot be read."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, LOOK_AT):
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        pass
    return sorted(folders), sorted(files)
