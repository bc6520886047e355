"""Data sets of the library `datasets`, made and saved here; nothing is fetched."""

import sys

import numpy as np
import pytest
from PIL import Image

from harness.data.content import content
from harness.data.sources import load_source
from harness.data.splits import split
from harness.errors import UserError
from harness.sections import Data

datasets = pytest.importorskip("datasets")  # the extra hf, which `make setup` installs


def asked(**options):
    return Data(**({"name": "hf", "root": "scans", "val_size": 4, "image_size": 8, "channels": 1} | options))


def part(first, count, **columns):
    """Grey squares whose value tells which they are."""
    images = [Image.fromarray(np.full((9, 7), 3 * (first + i), dtype=np.uint8)) for i in range(count)]
    features = datasets.Features(
        {
            "scan": datasets.Image(),
            "patient": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=["ill", "well"]),
        }
    )
    rows = {
        "scan": images,
        "patient": [f"p{(first + i) // 4}" for i in range(count)],
        "kind": [i % 2 for i in range(count)],
    }
    return datasets.Dataset.from_dict(rows | columns, features=features)


@pytest.fixture
def saved(tmp_path):
    whole = datasets.DatasetDict({"train": part(0, 24), "validation": part(24, 8), "test": part(32, 8)})
    whole.save_to_disk(str(tmp_path / "scans"))
    return tmp_path


def test_a_saved_data_set_has_its_own_splits_classes_and_columns(saved):
    source = load_source(asked(), saved)

    assert source.classes == ("ill", "well")
    found = [*source.train_images[:], *source.val_images[:], *source.test_images[:]]
    assert [int(image[0, 0, 0]) for image in found] == [3 * i for i in range(40)]
    assert source.test_labels.tolist() == [0, 1] * 4
    parts = split(source, asked(), 0)
    assert [len(p.label) for p in (parts.train, parts.val, parts.test)] == [24, 4, 8]
    assert content(asked(), saved).images == 40


def test_groups_of_a_column_and_a_leak(saved):
    part(0, 24).save_to_disk(str(saved / "one"))
    options = asked(root="one", group="patient", test_size=4)
    source = load_source(options, saved)
    parts = split(source, options, 0)
    groups = [set(source.groups[p.index].tolist()) for p in (parts.train, parts.val, parts.test)]
    assert [len(g) for g in groups] == [4, 1, 1]
    assert set.union(*groups) == set(range(6))

    torn = datasets.DatasetDict({"train": part(0, 24), "test": part(22, 8)})
    torn.save_to_disk(str(saved / "torn"))
    assert "2 in train and in test" in content(asked(root="torn"), saved).leak
    with pytest.raises(UserError, match=r"1 groups \(p5\) have images in train and in test"):
        content(asked(root="torn", group="patient"), saved)


def test_a_folder_of_image_files_is_read_as_the_library_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "pets" / name / label).mkdir(parents=True)
            for i in range(3):
                shade = 20 * i + (name == "test") + 100 * (label == "b")
                Image.new("L", (8, 8), shade).save(tmp_path / "pets" / name / label / f"{i}.png")
    source = load_source(asked(root="pets"), tmp_path)
    assert source.classes == ("a", "b")
    assert sorted(int(image[0, 0, 0]) for image in source.test_images[:]) == [1, 21, 41, 101, 121, 141]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"args": {"label": "knd"}}, r"data.args.label = 'knd': no such column; did you mean 'kind'"),
        ({"group": "patent"}, r"group = 'patent': no such column; did you mean 'patient'"),
        ({"args": {"imag": "scan"}}, r"data.args has imag; did you mean 'image'"),
        ({"root": "gone"}, r"there is no folder .*gone that `datasets` can read.*or say download = true in \[data\]"),
    ],
)
def test_what_is_wrong_is_named(saved, options, said):
    with pytest.raises(UserError, match=said):
        content(asked(**options), saved)


def test_without_the_library_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets: pip install 'harness\[hf\]'"):
        content(asked(test_size=7), saved)
