"""Which files of a folder of images belong to which class. Nothing here reads a file, or imports torch or Pillow."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.data.disk import expand, shown
from harness.data.layout import FLAT, layout_of, near_miss
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

SPLITS = ("train", "val", "test")
"""Training, validation and test split. Where the last two have no files, their images are drawn from train."""

CLUTTER = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "@sharebin"),
    *("__macosx", "lost+found", "network trash folder", "temporary items"),
}
"""Files and folders that desktops, file systems and network storage leave behind, in lower case."""


class Facts(NamedTuple):
    """What the file system says of a file; while all agree, its bytes are taken to be the same.

    Windows gives no inode while a folder is listed, and the time of creation as `ctime_ns`.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class File(NamedTuple):
    """One file: its path relative to the data set with "/" between the parts, its facts and its class position.

    `group` is what it shares with other images, such as a patient; empty where nothing is known.
    """

    name: str
    facts: Facts
    label: int
    group: str = ""


Lost = tuple[int, int, str, str]
"""A file that cannot be read: position of its split, its class position, its path, and the reason."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of the chosen classes of a data set, in the order in which they become rows.

    classes: names that can be printed, in the order of the labels. splits: the files of each of `SPLITS`.
    lost: files that are there in name only, such as links to nothing. ignored: how many files and folders of each
    kind of clutter were passed over. places: what each split is called in the data set.
    """

    folder: Path
    classes: tuple[str, ...]
    splits: tuple[tuple[File, ...], ...]
    lost: tuple[Lost, ...]
    ignored: tuple[tuple[str, int], ...]
    places: tuple[str, ...] = SPLITS


@dataclass
class _Found:
    """What a walk through folders collects."""

    files: list[File] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def list_folder(data: Data, data_root: Path) -> Listing:
    """The files of a `folder` data set, `<split>/<class>/**` or `<class>/**` in `data_root / data.root`.

    The splits are train, val and test, or train and one of the others, which is the test split. Classes are in natural
    order (2 before 10), and what belongs to no chosen class is not looked at. Links are followed. Clutter is passed
    over and counted.

    Args:
        data: the `[data]` table; only root and classes matter here.
        data_root: the folder that holds data sets, or the data set itself.

    Raises:
        UserError: a folder is missing or cannot be read, or the splits differ in the chosen classes.
    """
    name = data.root or ""
    folder = data_root / expand(name)
    if not folder.is_dir() and layout_of(data_root) not in (None, FLAT):
        folder = data_root
    if not folder.is_dir():
        raise UserError(
            f"{shown(folder)} does not exist: data.root = '{name}' needs that folder with train/<class>/ and "
            "test/<class>/ (or val/<class>/), or <class>/ alone, in it; put it there, or name the folder that holds it "
            f"with --data-root or HARNESS_DATA{near_miss(folder, data_root)}"
        )
    found = _Found()
    places = layout_of(folder)
    if places is None:
        missing = next((split for split in SPLITS if not (folder / split).is_dir()), "")
        what = (
            f" does not exist; expected {missing}/" if missing else " is no data set; expected train/, val/ and test/"
        )
        raise UserError(
            f"{shown(folder / missing)}{what} with one folder of images for each class"
            f"{near_miss(folder, folder.parent)}"
        )
    has = [not i or bool(place) for i, place in enumerate(places)]
    folders = [_class_folders(folder, place, found.ignored) if has[i] else {} for i, place in enumerate(places)]
    classes = choose_classes(data.classes, sorted(set().union(*folders), key=natural))
    _check_same(folder, classes, {place: folders[i] for i, place in enumerate(places) if has[i]})
    if len(classes) < 2:
        raise UserError(f"{shown(folder / places[0])}: one class folder ('{classes[0]}'); at least two are needed")
    splits = []
    for i, place in enumerate(places):
        above = (_identity(folder), _identity(folder / place))
        for label, name in enumerate(classes if has[i] else ()):
            real = folders[i][name]
            if real is None:
                raise UserError(
                    f"{shown(folder / place / name)} is a link to nothing; fetch what it stands for (dvc pull, "
                    "git annex get), or remove it"
                )
            _walk(str(folder / place / real), f"{place}/{real}".lstrip("/"), i, label, above, found)
        splits.append(tuple(found.files))
        found.files.clear()
    ignored = tuple(sorted(found.ignored.items()))
    return Listing(folder, classes, tuple(splits), tuple(found.lost), ignored, places)


def _check_same(folder: Path, classes: Sequence[str], folders: Mapping[str, Iterable[str]]) -> None:
    """Refuse splits of which one lacks a chosen class that another one has; `folders` are by the name of the split."""
    have = {c: [split for split, names in folders.items() if c in names] for c in classes}
    only = [f"'{c}' only in {' and '.join(splits)}" for c, splits in have.items() if len(splits) < len(folders)]
    if only:
        more = f" and {len(only) - 10} more" if len(only) > 10 else ""
        raise UserError(
            f"{shown(folder)}: {', '.join(folders)} must have the same class folders, but {', '.join(only[:10])}{more}"
            "; add them, or name those to use with data.classes"
        )


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


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts numbers inside names by value: 2 before 10. No two names have one key, as 01 before 1 needs."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split("([0-9]+)", name))], name


def clutter(name: str) -> str | None:
    """The kind of clutter that a file or folder of this name is, or None when it belongs to the data."""
    if name.lower() in CLUTTER:
        return name.rstrip()
    return None if name[0] != "." else name if name in (".DS_Store", ".AppleDouble") else "hidden"


def _class_folders(folder: Path, split: str, ignored: Counter[str]) -> dict[str, str | None]:
    """The name on disk of each class folder by its printable name; None for a link to nothing."""
    path = folder / split
    classes: dict[str, str | None] = {}
    for entry in _entries(str(path)):
        kind = clutter(entry.name)
        if kind is not None:
            ignored[kind] += 1
        elif os.path.isdir(entry.path):
            classes[shown(entry.name)] = entry.name
        elif not os.path.exists(entry.path):
            classes[shown(entry.name)] = None
        else:
            ignored["outside the class folders"] += 1
    if not classes:
        raise UserError(
            f"{shown(path)} has no class folders; expected {split}/<class>/<image files>"
            f"{near_miss(folder, folder.parent)}"
        )
    return classes


def _entries(path: str) -> list[os.DirEntry[str]]:
    """What a folder holds, by name, in an order that does not depend on the file system."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{shown(path)}: the folder cannot be read ({error.strerror})") from None


def _identity(path: str | Path) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def _walk(path: str, name: str, split: int, label: int, above: tuple[tuple[int, int], ...], found: _Found) -> None:
    """Add the files of a folder at any depth; a link that leads back to a folder above is passed over."""
    entries, here = _entries(path), _identity(path)
    if here in above:
        found.ignored["link to a folder above"] += 1
        return
    for entry in entries:
        kind = clutter(entry.name)
        if kind is not None:
            found.ignored[kind] += 1
            continue
        inner = f"{name}/{entry.name}"
        try:
            if entry.is_dir():
                _walk(entry.path, inner, split, label, (*above, here), found)
            elif entry.is_file():
                facts = entry.stat()
                found.files.append(
                    File(inner, Facts(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino), label)
                )
            elif entry.is_symlink():
                found.lost.append((split, label, shown(inner), "a link to nothing"))
            else:
                found.ignored["not a file"] += 1
        except OSError as error:  # it vanished, or a link leads to itself
            found.lost.append((split, label, shown(inner), error.strerror or type(error).__name__))
