"""Labels of the training images from a file, such as those that people gave.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.disk import expand, shown
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMATS = (".csv", ".npy", ".parquet")


def with_labels(digest: str, data: Data, data_root: Path) -> str:
    """The content digest of a data set with the labels of `data.labels`: 16 hex digits; as it was where that is None.

    Raises:
        UserError: the file cannot be read.
    """
    if data.labels is None:
        return digest
    sha256 = hashlib.sha256(_bytes(data, data_root)).hexdigest()
    return hashlib.sha256(f"{digest}\nlabels {sha256}".encode()).hexdigest()[:16]


def read_labels(data: Data, data_root: Path, classes: tuple[str, ...], count: int) -> NDArray[np.int64]:
    """The label (N,) of each training image of the data set, before it is split.

    A .npy file holds them in the order of the images. A .csv or .parquet file has the columns index, a position from 0,
    and label. A label is the position of its class, or in a table its name; where all are whole numbers and these are
    names of classes, too, they are positions.

    Args:
        data: the `[data]` table, whose `labels` is the file, relative to the folder that holds data sets.
        data_root: that folder.
        classes: names of the classes.
        count: N.

    Raises:
        UserError: the file cannot be read, or an image has no label, a second one or one of no class.
    """
    path = _path(data, data_root)
    if path.suffix == ".npy":
        return _array(path, classes, count)
    return _table(path, classes, count)


def _path(data: Data, data_root: Path) -> Path:
    return data_root / expand(data.labels or "")


def _bytes(data: Data, data_root: Path) -> bytes:
    path = _path(data, data_root)
    if path.suffix not in FORMATS:
        raise UserError(f"data.labels = '{data.labels}': labels are in a file {', '.join(FORMATS)}; write one of these")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"data.labels: {shown(path)} cannot be read ({error.strerror}); give a path from the folder that holds "
            "data sets, or a full one"
        ) from None


def _array(path: Path, classes: tuple[str, ...], count: int) -> NDArray[np.int64]:
    import numpy as np

    try:
        labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{shown(path)} cannot be read as .npy without pickle: {str(error).splitlines()[0]}") from None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{shown(path)} is {labels.dtype} of shape {labels.shape}; it needs one whole number for each of the "
            f"{count} training images of the data set, in their order"
        )
    return _checked(path, labels.astype(np.int64), classes)


def _table(path: Path, classes: tuple[str, ...], count: int) -> NDArray[np.int64]:
    import numpy as np
    import pandas as pd

    try:
        frame: Any = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    except Exception as error:  # each reader fails in ways of its own
        raise UserError(f"{shown(path)} cannot be read: {str(error).splitlines()[0]}") from None
    for column in ("index", "label"):
        if column not in frame.columns:
            near = did_you_mean(column, list(map(str, frame.columns)))
            raise UserError(f"{shown(path)} has no column {column}{near} It needs index and label")
    index = _numbers(frame["index"])
    if index is None:
        raise UserError(f"{shown(path)}: column index has what is no whole number; it holds positions from 0")
    outside = index[(index < 0) | (index >= count)]
    if len(outside):
        raise UserError(
            f"{shown(path)}: {len(outside)} rows are of no image, as index {outside[0]}; the data set has {count} "
            f"training images, 0 to {count - 1}; remove these rows"
        )
    times = np.bincount(index, minlength=count)
    for wrong, what in ((times == 0, "without a label"), (times > 1, "with more than one label")):
        if wrong.any():
            raise UserError(
                f"{shown(path)}: {wrong.sum()} training images {what}, the first has index {wrong.argmax()}; give each "
                f"of the {count} one row"
            )
    labels = _numbers(frame["label"])
    if labels is None:
        position = {name: i for i, name in enumerate(classes)}
        unknown = [name for name in frame["label"].astype(str) if name not in position]
        if unknown:
            raise UserError(
                f"{shown(path)}: label '{unknown[0]}' is no class{did_you_mean(unknown[0], classes)} Known: "
                f"{', '.join(classes)}"
            )
        labels = np.array([position[name] for name in frame["label"].astype(str)], dtype=np.int64)
    out = np.empty(count, dtype=np.int64)
    out[index] = _checked(path, labels, classes)
    return out


def _numbers(column: Any) -> NDArray[np.int64] | None:
    """A column as whole numbers; None where it holds anything else."""
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(values).all() or (values != np.floor(values)).any():
        return None
    whole: NDArray[np.int64] = values.astype(np.int64)
    return whole


def _checked(path: Path, labels: NDArray[np.int64], classes: tuple[str, ...]) -> NDArray[np.int64]:
    outside = labels[(labels < 0) | (labels >= len(classes))]
    if len(outside):
        raise UserError(
            f"{shown(path)}: {len(outside)} labels are of no class, as {outside[0]}; the data set has {len(classes)} "
            f"classes, 0 to {len(classes) - 1}"
        )
    return labels
