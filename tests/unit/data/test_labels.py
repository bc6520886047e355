from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.data.content import content
from harness.data.labels import read_labels
from harness.data.sources import load_source
from harness.errors import UserError
from harness.experiment import Arm, Data, Model, Recipe, RunSpec

CLASSES = ("cat", "dog", "ship")


def data(labels: str | None = None, **more: Any) -> Data:
    return Data(name="digits", val_size=20, test_size=20, labels=labels, **more)


def write(folder: Path, name: str, values: Any) -> None:
    if name.endswith(".npy"):
        np.save(folder / name, values)
    elif name.endswith(".parquet"):
        pd.DataFrame(values).to_parquet(folder / name)
    else:
        pd.DataFrame(values).to_csv(folder / name, index=False)


ROWS = {"index": [3, 0, 2, 1], "label": [2, 0, 1, 0]}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.npy", np.array([0, 0, 1, 2])),
        ("a.csv", ROWS),
        ("a.parquet", ROWS),
        ("a.csv", {**ROWS, "label": ["ship", "cat", "dog", "cat"]}),
        ("a.parquet", {**ROWS, "label": ["ship", "cat", "dog", "cat"]}),
    ],
)
def test_each_image_has_its_label(tmp_path: Path, name: str, values: Any) -> None:
    write(tmp_path, name, values)
    assert read_labels(data(name), tmp_path, CLASSES, 4).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("a.csv", {"index": [0, 1, 3], "label": [0, 1, 2]}, "1 training images without a label, the first has index 2"),
        ("a.csv", {"index": [0, 1, 2, 2, 3], "label": [0] * 5}, "1 training images with more than one label"),
        (
            "a.csv",
            {"index": [0, 1, 2, 3, 4], "label": [0] * 5},
            "1 rows are of no image, as index 4; the data set has 4",
        ),
        (
            "a.csv",
            {"index": [0, 1, 2, 3], "label": [0, 1, 3, -1]},
            "2 labels are of no class, as 3; the data set has 3",
        ),
        ("a.csv", {"index": [0, 1, 2, 3], "label": [0, 1, 1.5, 1]}, "label '0.0' is no class"),
        ("a.csv", {"index": [0, 1, 2, 3], "label": ["cat", "dgo", "dog", "cat"]}, "did you mean 'dog'"),
        ("a.csv", {"idx": [0], "label": [0]}, "no column index"),
        ("a.csv", {"index": ["x"], "label": [0]}, "column index has what is no whole number"),
        ("a.npy", np.array([0, 1, 2]), r"int64 of shape \(3,\); it needs one whole number for each of the 4"),
        ("a.npy", np.zeros(4), "float64 of shape"),
        ("a.npy", np.array([0, 1, 2, 7]), "1 labels are of no class, as 7"),
    ],
)
def test_wrong_files_are_refused_with_the_reason(tmp_path: Path, name: str, values: Any, why: str) -> None:
    write(tmp_path, name, values)
    with pytest.raises(UserError, match=why):
        read_labels(data(name), tmp_path, CLASSES, 4)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    for name in ("a.npy", "a.parquet"):
        (tmp_path / name).write_bytes(b"no such format")
        with pytest.raises(UserError, match="cannot be read"):
            read_labels(data(name), tmp_path, CLASSES, 4)


@pytest.mark.parametrize(("name", "why"), [("none.npy", "No such file"), ("a.txt", "write one of these")])
def test_no_such_file_or_format(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        content(data(name), tmp_path)


def test_the_file_is_part_of_the_content_and_reaches_the_source(tmp_path: Path) -> None:
    plain = content(data(), tmp_path).digest
    labels = np.zeros(1797, int)
    np.save(tmp_path / "a.npy", labels)
    first = content(data("a.npy"), tmp_path).digest
    loaded = load_source(data("a.npy"), tmp_path)
    assert loaded.digest == first != plain
    assert loaded.said_labels is not None
    assert not loaded.said_labels.any()
    np.save(tmp_path / "a.npy", labels + 1)
    assert content(data("a.npy"), tmp_path).digest != first
    assert load_source(data("a.npy"), tmp_path).said_labels is not None
    assert load_source(data(), tmp_path).said_labels is None
    np.save(tmp_path / "b.npy", labels)
    assert content(data("b.npy"), tmp_path).digest == first  # equal labels are the same data, whatever the name


def test_new_conditions_leave_old_run_ids_as_they_were() -> None:
    spec = RunSpec(
        data=data(), model=Model(name="digits_resnet"), recipe=Recipe(epochs=1, batch_size=8, lr=0.1), arm=Arm(), seed=0
    )
    assert not {"labels", "labelled", "label_noise_kind", "label_noise_to"} & {
        word.strip('"') for word in spec.canonical_json.replace(":", ",").split(",")
    }
