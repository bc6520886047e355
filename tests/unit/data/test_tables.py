"""Data sets of a table: CSV and parquet files that list images with labels, splits and groups."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from harness.data.content import content
from harness.data.sources import load_source
from harness.data.splits import split
from harness.errors import UserError
from harness.experiment import Data

PATIENTS, EACH = 20, 4


@pytest.fixture
def table(tmp_path):
    """12-bit grey images of 20 patients, 4 each; the label is the patient's, the grey value tells the image."""
    rows = []
    for patient in range(PATIENTS):
        for i in range(EACH):
            name = f"scan-{patient}-{i}.png"
            grey = 40 * (EACH * patient + i)
            Image.fromarray(np.full((10, 12), grey, dtype=np.uint16)).save(tmp_path / name)
            rows.append({"path": name, "label": ["healthy", "ill"][patient % 2], "patient": f"p{patient}"})
    pd.DataFrame(rows).to_csv(tmp_path / "scans.csv", index=False)
    return tmp_path


def data(**options):
    asked = {"name": "csv", "root": "scans.csv", "image_size": 8, "val_size": 16, "test_size": 20, "channels": 1}
    return Data(**(asked | {"window": [0, 4095], "group": "patient"} | options))


def rewrite(folder, change):
    frame = pd.read_csv(folder / "scans.csv")
    change(frame)
    frame.to_csv(folder / "scans.csv", index=False)


def test_one_channel_of_12_bits_stays_one_channel_of_the_window(table):
    source = load_source(data(), table)

    assert source.classes == ("healthy", "ill")
    assert source.train_images[:].shape == (80, 8, 8, 1)
    wanted = [round(40 * i * 255 / 4095) for i in range(80)]
    assert source.train_images[:][:, 0, 0, 0].tolist() == wanted
    assert source.train_labels.tolist() == [patient % 2 for patient in range(PATIENTS) for _ in range(EACH)]
    assert source.test_images is None
    assert not source.invariances.color
    assert load_source(data(channels=None), table).train_images[:].shape == (80, 8, 8, 3)


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_is_in_one_split_only(table, seed):
    asked = data()
    source = load_source(asked, table)
    parts = split(source, asked, seed)
    groups = [set(source.groups[part.index]) for part in (parts.train, parts.val, parts.test)]

    assert [len(part.label) for part in (parts.train, parts.val, parts.test)] == [44, 16, 20]
    assert [len(g) for g in groups] == [11, 4, 5]
    assert set.union(*groups) == set(range(PATIENTS))
    assert set(parts.val.label.tolist()) == {0, 1}
    small = split(source, data(train_size=10), seed)
    assert set(small.train.index.tolist()) <= set(parts.train.index.tolist())
    assert torch.equal(small.test.index, parts.test.index)


def test_without_groups_the_split_is_stratified(table):
    asked = data(group=None)
    parts = split(load_source(asked, table), asked, 0)

    assert torch.bincount(parts.test.label).tolist() == [10, 10]
    assert len(parts.train.label) == 44


def test_the_digest_sees_labels_groups_and_pixels(table):
    first = content(data(), table).digest
    assert content(data(group=None), table).digest != first
    rewrite(table, lambda frame: frame.loc.__setitem__((0, "label"), "ill"))
    second = content(data(), table).digest
    assert second != first
    Image.fromarray(np.full((10, 12), 7, dtype=np.uint16)).save(table / "scan-3-1.png")
    assert content(data(), table).digest not in (first, second)


def test_a_split_of_the_table_is_kept_and_a_leak_refused(table):
    def last(frame):
        frame["split"] = ["test" if i >= 60 else "train" for i in range(80)]

    rewrite(table, last)
    asked = data(test_size=None)
    source = load_source(asked, table)
    assert [len(source.train_labels), len(source.test_labels)] == [60, 20]
    assert len(split(source, asked, 0).test.label) == 20

    rewrite(table, lambda frame: frame.loc.__setitem__((0, "split"), "test"))
    with pytest.raises(UserError, match=r"1 of column patient have images in train and in test \(p0\)"):
        load_source(asked, table)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda f: f.rename(columns={"label": "lable"}, inplace=True), {}, "no column 'label'; did you mean 'lable'"),
        (lambda f: None, {"group": "patent"}, "data.group = 'patent': no column 'patent'; did you mean 'patient'"),
        (lambda f: f.loc.__setitem__((2, "label"), None), {}, "line 4: column label is empty"),
        (lambda f: f.loc.__setitem__((5, "path"), "scan-0-0.png"), {}, "line 7: 'scan-0-0.png' is listed a second"),
        (lambda f: f.__setitem__("split", "val"), {}, "line 2: split 'val'; write train, test"),
        (lambda f: f.__setitem__("label", "ill"), {}, r"one label \('ill'\)"),
        (lambda f: None, {"root": "gone.csv"}, "gone.csv does not exist"),
        (lambda f: f.__setitem__("path", "x" + f["path"]), {}, "80 of 80|no readable image"),
    ],
)
def test_a_wrong_table_is_refused_with_the_line(table, change, options, said):
    rewrite(table, change)
    with pytest.raises(UserError, match=said):
        load_source(data(**options), table)


def test_a_parquet_table_is_the_same_data(table):
    pd.read_csv(table / "scans.csv").to_parquet(table / "scans.parquet")

    assert content(data(root="scans.parquet"), table).digest == content(data(), table).digest


def test_a_group_larger_than_the_split_is_refused(table):
    asked = data(val_size=3)
    with pytest.raises(UserError, match="smallest group left has 4 images, and a held split of 3"):
        split(load_source(asked, table), asked, 0)


@pytest.mark.parametrize("wrong", [{"name": "folder"}, {"name": "digits", "root": None, "image_size": None}])
def test_group_belongs_to_tables(wrong):
    with pytest.raises(ValueError, match=r"belongs? to"):
        data(**wrong)


def test_a_study_of_a_table_with_patients(table, monkeypatch):
    import json
    import sys

    from harness.cli import main
    from harness.store.reader import read_kind, read_manifest

    (table / "scans.toml").write_text(STUDY)
    monkeypatch.chdir(table)
    words = ["harness", "ablate", "label_smoothing", "-e", "scans.toml", "--data-root", ".", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--workers", "1", "--results", "r", "--reports", "p"])
    with pytest.raises(SystemExit):
        main()

    (folder,) = [p for p in (table / "r").iterdir() if (p / "study.json").exists()]
    runs, _, _ = read_kind(folder, "runs", read_manifest(folder).runs)
    assert [str(status) for status in runs["status"]] == ["ok"] * 4
    assert json.loads(str(runs["spec"][0]))["data"]["group"] == "patient"


STUDY = """
[experiment]
name = "scans"
[data]
name = "csv"
root = "scans.csv"
group = "patient"
channels = 1
window = [0, 4095]
image_size = 8
val_size = 16
test_size = 20
[model]
name = "resnet8"
width = 4
[recipe]
epochs = 2
batch_size = 8
lr = 0.05
"""
