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


def test_validation_rows_of_the_table_are_the_validation_split(table):
    def cut(frame):
        frame["split"] = ["train"] * 40 + ["val"] * 20 + ["test"] * 20

    rewrite(table, cut)
    asked = data(test_size=None, val_size=20)
    source = load_source(asked, table)
    parts = split(source, asked, 3)

    assert [len(part.label) for part in (parts.train, parts.val, parts.test)] == [40, 20, 20]
    greys = [round(40 * i * 255 / 4095) for i in range(40, 60)]
    assert parts.val.rows[:][:, 0, 0, 0].tolist() == greys
    assert parts.val.label.tolist() == source.val_labels.tolist() == [(i // 4) % 2 for i in range(40, 60)]
    assert content(asked, table).images == 80
    few = split(source, data(test_size=8, val_size=10), 3)
    assert torch.bincount(few.val.label).tolist() == [6, 4]  # of 12 and 8
    assert set(few.val.index.tolist()) < set(range(20))

    rewrite(table, lambda frame: frame.loc.__setitem__((40, "split"), "train"))
    with pytest.raises(UserError, match=r"1 of column patient have images in train and in val \(p10\), so the val"):
        load_source(asked, table)


def test_a_list_file_is_the_same_data_as_the_table(table):
    frame = pd.read_csv(table / "scans.csv")
    (table / "my scans").mkdir()
    (table / "scan-0-0.png").rename(table / "my scans" / "0 0.png")
    frame.loc[0, "path"] = "my scans/0 0.png"
    frame.to_csv(table / "scans.csv", index=False)
    lines = [f"{path}\t {label}\n" for path, label in zip(frame["path"], frame["label"], strict=True)]
    (table / "scans.txt").write_text("".join(lines))
    asked = data(root="scans.txt", group=None)

    assert content(asked, table).digest == content(data(group=None), table).digest
    (table / "scans.txt").write_text("".join([*lines, "scan-0-1.png\n"]))
    with pytest.raises(UserError, match=r"scans.txt, line 81: 'scan-0-1.png' is no path and label with a space"):
        content(asked, table)
    (table / "scans.txt").write_text("".join([*lines, lines[7]]))
    with pytest.raises(UserError, match=r"scans.txt, line 81: 'scan-1-3.png' is listed a second time"):
        content(asked, table)


def test_a_folder_of_lists_has_one_for_each_split(table):
    rows = pd.read_csv(table / "scans.csv")
    for name, part in {"train.txt": rows[:40], "val.txt": rows[40:60], "test.csv": rows[60:]}.items():
        sep, header = ("," if name.endswith("csv") else " "), name.endswith("csv")
        part[["path", "label"]].to_csv(table / name, sep=sep, header=header, index=False)
    source = load_source(data(root=".", group=None), table)
    assert [len(labels) for labels in (source.train_labels, source.val_labels, source.test_labels)] == [40, 20, 20]

    (table / "test.txt").write_text("scan-0-0.png ill\n")
    with pytest.raises(UserError, match=r"has test.csv and test.txt for one split"):
        load_source(data(root=".", group=None), table)
    (table / "test.csv").unlink()
    with pytest.raises(UserError, match=r"test.txt, line 1: 'scan-0-0.png' is listed a second time"):
        load_source(data(root=".", group=None), table)
    (table / "train.txt").unlink()
    with pytest.raises(UserError, match=r"has no train.csv: data.root names a table, or a folder with a table for"):
        load_source(data(root=".", group=None), table)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda f: f.rename(columns={"label": "lable"}, inplace=True), {}, "no column 'label'; did you mean 'lable'"),
        (lambda f: None, {"group": "patent"}, "data.group = 'patent': no column 'patent'; did you mean 'patient'"),
        (lambda f: f.loc.__setitem__((2, "label"), None), {}, "line 4: column label is empty"),
        (lambda f: f.loc.__setitem__((5, "path"), "scan-0-0.png"), {}, "line 7: 'scan-0-0.png' is listed a second"),
        (lambda f: f.__setitem__("split", "dev"), {}, "line 2: split 'dev'; write train, val, test"),
        (lambda f: f.__setitem__("split", "val"), {}, "no row is of split train"),
        (lambda f: f.loc.__setitem__((5, "path"), "./scan-0-0.png"), {}, "line 7: './scan-0-0.png' is listed a second"),
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
