"""Images that a table lists: columns path and label, and split or a group where it has them; or lines "path label".

Nothing here opens an image, or imports torch or Pillow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.disk import expand, shown
from harness.data.listing import SPLITS, Facts, File, Listing, Lost, choose_classes, natural
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

if TYPE_CHECKING:
    import pandas as pd

LISTS = (".txt", ".lst", ".list")
"""How the name of a file ends that may hold lines "path label"."""

TABLES = (".csv", ".tsv", ".parquet", *LISTS)
"""How the name of a table of one split ends, where each split has its own."""


def list_table(data: Data, data_root: Path) -> Listing:
    """The files of a `csv` data set, `data.root`: a table, or a folder with a table for each split.

    Paths are relative to the table's folder. Without validation or test rows, those images are drawn from train for
    each seed. `data.group` names the column of patients, scenes or whatever else several images share.

    Args:
        data: the `[data]` table; only root, classes and group matter here.
        data_root: the folder that holds data sets, in which the table is looked for.

    Raises:
        UserError: the table is missing, damaged or lacks a column, a row lacks a value, a file is named twice, there
            are fewer than two classes, or a group has images in two splits.
    """
    import pandas as pd

    path = data_root / expand(data.root or "")
    folder = path if path.is_dir() else path.parent
    frame = _read_all(path, data.group)
    names = frame["path"].map(os.path.normpath)
    again = frame.index[names.duplicated()]
    if len(again):
        raise UserError(f"{frame['at'][again[0]]}: '{frame['path'][again[0]]}' is listed a second time; list each once")
    split = pd.Series("train", frame.index)
    if "split" in frame.columns:
        split = frame["split"].str.lower()
        strange = frame.index[~split.isin(SPLITS)]
        if len(strange):
            raise UserError(
                f"{frame['at'][strange[0]]}: split '{frame['split'][strange[0]]}'; write {', '.join(SPLITS)}; "
                "validation or test images of which there are none are drawn from train for each seed"
            )
        if not (split == "train").any():
            raise UserError(f"{shown(path)}: no row is of split train; none is left to train on")
    if data.group:
        _check_groups(path, data.group, frame[data.group], split)
    classes = choose_classes(data.classes, sorted(set(frame["label"]), key=natural))
    if len(classes) < 2:
        raise UserError(f"{shown(path)}: one label ('{classes[0]}'); at least two are needed")
    groups = frame[data.group] if data.group else pd.Series("", frame.index)
    files: tuple[list[File], ...] = tuple([] for _ in SPLITS)
    lost: list[Lost] = []
    for name, label, at, group in zip(frame["path"], frame["label"], split.map(SPLITS.index), groups, strict=True):
        if label not in classes:
            continue
        try:
            facts = os.stat(os.path.join(folder, name))
        except OSError as error:
            lost.append((at, classes.index(label), shown(name), error.strerror or type(error).__name__))
            continue
        known = Facts(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        files[at].append(File(name, known, classes.index(label), group))
    return Listing(folder, classes, tuple(map(tuple, files)), tuple(lost), ())


def _read_all(path: Path, group: str | None) -> pd.DataFrame:
    """The rows of the table, or of those of a folder, whose names say the split; `at` is where each row stands.

    Raises:
        UserError: a table is missing, damaged, empty or lacks a column or a value.
    """
    import pandas as pd

    if not path.is_dir():
        return _checked(path, _read(path), group)
    found = {s: [p for p in sorted(path.glob(f"{s}.*")) if p.suffix.lower() in TABLES] for s in SPLITS}
    if not found["train"]:
        raise UserError(
            f"{shown(path)} has no train{TABLES[0]}: data.root names a table, or a folder with a table for each split "
            f"({', '.join(SPLITS)})"
        )
    frames = []
    for split, tables in found.items():
        if len(tables) > 1:
            raise UserError(f"{shown(path)} has {' and '.join(t.name for t in tables)} for one split; keep one")
        frames += [_checked(table, _read(table), group).assign(split=split) for table in tables]
    return pd.concat(frames, ignore_index=True)


def _checked(path: Path, frame: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """A table whose columns are there and filled, with a column `at`."""
    wanted = ["path", "label", *([group] if group else [])]
    for name in wanted:
        if name not in frame.columns:
            key = f"data.group = '{name}'" if name == group else f"{shown(path)}"
            raise UserError(
                f"{key}: no column '{name}'{did_you_mean(name, frame.columns)} {shown(path)} has: "
                f"{', '.join(frame.columns)}"
            )
    if frame.empty:
        raise UserError(f"{shown(path)} lists no image")
    first = int(frame.attrs.get("first", 2))
    for name in (*wanted, *(["split"] if "split" in frame.columns else [])):
        empty = frame.index[frame[name].isna() | (frame[name] == "")]
        if len(empty):
            raise UserError(
                f"{shown(path)}, line {empty[0] + first}: column {name} is empty; fill it or remove the row"
            )
    return frame.assign(at=[f"{shown(path)}, line {i + first}" for i in range(len(frame))])


def _read(path: Path) -> pd.DataFrame:
    """All cells as text. The attribute `first` of a list file is the line of its first row."""
    import pandas as pd

    if not path.is_file():
        raise UserError(
            f"{shown(path)} does not exist: data.root names the table of a csv data set; name the folder that holds it "
            "with --data-root or HARNESS_DATA"
        )
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
            return frame.where(frame.isna(), frame.astype(str))
        if path.suffix.lower() in LISTS:
            text = path.read_text(encoding="utf-8-sig")
            if not {"path", "label"} <= set(re.split(r"[,;\t ]+", text.partition("\n")[0].strip())):
                return _lines(path, text.splitlines())
        return pd.read_csv(path, dtype=str, keep_default_na=False, sep=None, engine="python", encoding="utf-8-sig")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise UserError(f"{shown(path)} cannot be read as a table: {str(error).splitlines()[0]}") from None


def _lines(path: Path, lines: Iterable[str]) -> pd.DataFrame:
    """A list file: on each line a path, which may hold spaces, and after the last space or tab the label."""
    import pandas as pd

    rows = []
    for number, line in enumerate(lines, 1):
        words = line.strip().rsplit(maxsplit=1)
        if len(words) != 2:
            raise UserError(
                f"{shown(path)}, line {number}: '{line.strip()[:80]}' is no path and label with a space between them"
            )
        rows.append(words)
    frame = pd.DataFrame(rows, columns=["path", "label"], dtype=str)
    frame.attrs["first"] = 1
    return frame


def _check_groups(path: Path, column: str, group: pd.Series[str], split: pd.Series[str]) -> None:
    """Refuse groups that two splits share."""
    for one, other in combinations(SPLITS, 2):
        both = sorted(set(group[split == one]) & set(group[split == other]))
        if both:
            raise UserError(
                f"{shown(path)}: {len(both)} of column {column} have images in {one} and in {other} "
                f"({', '.join(both[:5])}{', ...' if len(both) > 5 else ''}), so the {other} would leak; put all images "
                "of each into one split"
            )
