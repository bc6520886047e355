"""Images that a table lists: a CSV or parquet file with columns path and label, and split or a group where it has them.

Nothing here opens an image, or imports torch or Pillow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.disk import expand, shown
from harness.data.listing import SPLITS, Facts, File, Listing, Lost, choose_classes, natural
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

if TYPE_CHECKING:
    import pandas as pd

WORDS = {"train": 0, "test": 1}
"""What the column split may hold, and the position of that split among `SPLITS`."""

KINDS = ", ".join(WORDS)


def list_table(data: Data, data_root: Path) -> Listing:
    """The files of a `csv` data set, `data.root`; paths are relative to the table's folder.

    Without a column split all images are split for each seed, and `data.test_size` is needed. `data.group` names the
    column of patients, scenes or whatever else several images share.

    Args:
        data: the `[data]` table; only root, classes and group matter here.
        data_root: the folder that holds data sets, in which the table is looked for.

    Raises:
        UserError: the table is missing, damaged or lacks a column, a row lacks a value, a file is named twice, there
            are fewer than two classes, or a group has images in both splits.
    """
    import pandas as pd

    path = data_root / expand(data.root or "")
    frame = _read(path)
    wanted = ["path", "label", *([data.group] if data.group else [])]
    for name in wanted:
        if name not in frame.columns:
            key = f"data.group = '{name}'" if name == data.group else f"{shown(path)}"
            raise UserError(
                f"{key}: no column '{name}'{did_you_mean(name, frame.columns)} {shown(path)} has: "
                f"{', '.join(frame.columns)}"
            )
    if "split" in frame.columns:
        wanted.append("split")
    for name in wanted:
        empty = frame.index[frame[name].isna() | (frame[name] == "")]
        if len(empty):
            raise UserError(f"{shown(path)}, line {empty[0] + 2}: column {name} is empty; fill it or remove the row")
    again = frame.index[frame["path"].duplicated()]
    if len(again):
        raise UserError(
            f"{shown(path)}, line {again[0] + 2}: '{frame['path'][again[0]]}' is listed a second time; list each once"
        )
    split = pd.Series("train", frame.index)
    if "split" in frame.columns:
        split = frame["split"].str.lower()
        strange = frame.index[~split.isin(list(WORDS))]
        if len(strange):
            raise UserError(
                f"{shown(path)}, line {strange[0] + 2}: split '{frame['split'][strange[0]]}'; write {KINDS}: "
                "validation images are drawn from train for each seed"
            )
        if (split == "test").all():
            raise UserError(f"{shown(path)}: all rows are of split test; none is left to train on")
    if data.group:
        _check_groups(path, data.group, frame[data.group], split)
    classes = choose_classes(data.classes, sorted(set(frame["label"]), key=natural))
    if len(classes) < 2:
        raise UserError(f"{shown(path)}: one label ('{classes[0]}'); at least two are needed")
    groups = frame[data.group] if data.group else pd.Series("", frame.index)
    files: tuple[list[File], ...] = tuple([] for _ in SPLITS)
    lost: list[Lost] = []
    for name, label, at, group in zip(frame["path"], frame["label"], split.map(WORDS), groups, strict=True):
        if label not in classes:
            continue
        try:
            facts = os.stat(os.path.join(path.parent, name))
        except OSError as error:
            lost.append((at, classes.index(label), shown(name), error.strerror or type(error).__name__))
            continue
        known = Facts(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        files[at].append(File(name, known, classes.index(label), group))
    return Listing(path.parent, classes, tuple(map(tuple, files)), tuple(lost), ())


def _read(path: Path) -> pd.DataFrame:
    """All cells as text."""
    import pandas as pd

    if not path.is_file():
        raise UserError(
            f"{shown(path)} does not exist: data.root names the table of a csv data set; name the folder that holds it "
            "with --data-root or HARNESS_DATA"
        )
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            return frame.where(frame.isna(), frame.astype(str))
        return pd.read_csv(path, dtype=str, keep_default_na=False, sep=None, engine="python", encoding="utf-8-sig")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise UserError(f"{shown(path)} cannot be read as a table: {str(error).splitlines()[0]}") from None


def _check_groups(path: Path, column: str, group: pd.Series[str], split: pd.Series[str]) -> None:
    both = sorted(set(group[split == "train"]) & set(group[split == "test"]))
    if both:
        raise UserError(
            f"{shown(path)}: {len(both)} of column {column} have images in train and in test ({', '.join(both[:5])}"
            f"{', ...' if len(both) > 5 else ''}), so the test would leak; put all images of each into one split"
        )
