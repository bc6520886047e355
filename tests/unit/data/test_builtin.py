"""Torchvision's data sets by name, on files made in the layout that it reads; nothing is downloaded."""

import inspect
import json
import re
import struct
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from harness.data import builtin
from harness.data.content import content
from harness.data.sources import load_source
from harness.data.splits import split
from harness.errors import UserError
from harness.sections import ARRAYS, FILES, Data


def asked(name, **options):
    sizes = {} if f"torchvision/{name}" in ARRAYS else {"image_size": 8}
    return Data(**({"name": f"torchvision/{name}", "val_size": 2} | sizes | options))


def photo(path, value, suffix=".jpg"):
    path = path.with_name(path.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), (value, 0, 255 - value)).save(path)


def idx(path, array):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + array.tobytes())


def test_fashion_mnist_has_one_channel_and_its_own_test(tmp_path):
    host = np.random.default_rng(0)
    made = {n: host.integers(0, 256, (count, 28, 28), dtype=np.uint8) for n, count in (("train", 40), ("t10k", 20))}
    raw = tmp_path / "FashionMNIST" / "raw"
    for name, images in made.items():
        idx(raw / f"{name}-images-idx3-ubyte", images)
        idx(raw / f"{name}-labels-idx1-ubyte", (np.arange(len(images)) % 10).astype(np.uint8))
    options = asked("FashionMNIST", val_size=10)
    source = load_source(options, tmp_path)

    assert (source.train_images[..., 0] == made["train"]).all()
    assert (source.test_images[..., 0] == made["t10k"]).all()
    assert source.classes[0] == "T-shirt/top"
    assert not source.invariances.color
    parts = split(source, options, 0)
    assert [len(part.label) for part in (parts.train, parts.val, parts.test)] == [30, 10, 20]
    assert (content(options, tmp_path).images, content(options, tmp_path).classes) == (60, 10)
    few = load_source(asked("FashionMNIST", classes=("Coat", "Bag"), image_size=14), tmp_path)
    assert few.train_images.shape == (8, 14, 14, 1)
    assert few.test_labels.tolist() == [0, 1] * 2


def test_dtd_has_all_three_splits_and_partitions(tmp_path):
    base = tmp_path / "dtd" / "dtd"
    for k, name in enumerate(("banded", "dotted")):
        for i in range(9):
            photo(base / "images" / name / f"{name}_{i}", 40 * k + 4 * i)
    for partition in (1, 2):
        for j, part in enumerate(("train", "val", "test")):
            at = (j + partition - 1) % 3
            lines = [f"{n}/{n}_{i}.jpg\n" for n in ("banded", "dotted") for i in range(3 * at, 3 * at + 3)]
            (base / "labels").mkdir(exist_ok=True)
            (base / "labels" / f"{part}{partition}.txt").write_text("".join(lines))
    source = load_source(asked("DTD"), tmp_path)

    assert source.classes == ("banded", "dotted")
    assert [len(x) for x in (source.train_labels, source.val_labels, source.test_labels)] == [6, 6, 6]
    assert abs(int(source.val_images[:][0, 4, 4, 0]) - 12) < 4, "the fourth banded image"
    other = load_source(asked("DTD", args={"partition": 2}), tmp_path)
    assert abs(int(other.train_images[:][0, 4, 4, 0]) - 12) < 4
    assert other.digest != source.digest
    with pytest.raises(UserError, match=r"data.args = {'partitoin': 2}: torchvision says: .*partitoin"):
        content(asked("DTD", args={"partitoin": 2}), tmp_path)


def test_eurosat_has_no_split_of_its_own(tmp_path):
    for k, name in enumerate(("Forest", "River")):
        for i in range(6):
            photo(tmp_path / "eurosat" / "2750" / name / f"{name}_{i}", 40 * k + 5 * i)
    options = asked("EuroSAT", test_size=4)
    source = load_source(options, tmp_path)
    parts = split(source, options, 0)

    assert (source.classes, source.test_images, source.val_images) == (("Forest", "River"), None, None)
    assert [len(part.label) for part in (parts.train, parts.val, parts.test)] == [6, 2, 4]


def test_food101_reads_its_lists(tmp_path):
    base = tmp_path / "food-101"
    lists = {"train": {}, "test": {}}
    for k, name in enumerate(("apple_pie", "waffles")):
        for i in range(5):
            photo(base / "images" / name / str(i), 40 * k + 5 * i)
        lists["train"][name] = [f"{name}/{i}" for i in range(3)]
        lists["test"][name] = [f"{name}/{i}" for i in range(3, 5)]
    (base / "meta").mkdir()
    for part, listed in lists.items():
        (base / "meta" / f"{part}.json").write_text(json.dumps(listed))
    source = load_source(asked("Food101"), tmp_path)

    assert source.classes == ("apple_pie", "waffles")
    assert (source.train_labels.tolist(), source.test_labels.tolist()) == ([0] * 3 + [1] * 3, [0, 0, 1, 1])
    (base / "images" / "waffles" / "4.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 2 files cannot be read"):
        load_source(asked("Food101"), tmp_path)


def test_pets_are_trained_on_trainval(tmp_path):
    base = tmp_path / "oxford-iiit-pet"
    lines = {"trainval": [], "test": []}
    for k, name in enumerate(("Abyssinian", "pug")):
        for i in range(6):
            photo(base / "images" / f"{name}_{i}", 40 * k + 5 * i)
            lines["trainval" if i < 4 else "test"].append(f"{name}_{i} {k + 1} 1 1\n")
    (base / "annotations").mkdir()
    for part, listed in lines.items():
        (base / "annotations" / f"{part}.txt").write_text("".join(listed))
    source = load_source(asked("OxfordIIITPet", channels=1), tmp_path)

    assert source.classes == ("Abyssinian", "Pug")
    assert source.train_images[:].shape == (8, 8, 8, 1)
    assert source.test_labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", [full.partition("/")[2] for full in (*ARRAYS, *FILES)])
def test_what_is_missing_is_named_with_whether_it_may_be_fetched(name, tmp_path):
    first = builtin.KINDS[name].expected.split(" ")[0]
    with pytest.raises(
        UserError, match=rf"torchvision expects {re.escape(first)}.* in {tmp_path} and says.*or say download = true"
    ):
        content(asked(name, test_size=2), tmp_path)


def test_a_download_that_is_allowed_and_fails_says_so(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError("no network here")

    monkeypatch.setattr(datasets.DTD, "_download", refuse)
    with pytest.raises(UserError, match=r"says: no network here; the download that data.download = true allows failed"):
        content(asked("DTD", download=True), tmp_path)


class Fake:
    """What SVHN, STL10 and Flowers102 give, whose checksums allow no made files."""

    calls: ClassVar[list[dict[str, object]]] = []

    def __init__(self, root, *, split, download):
        Fake.calls.append({"root": root, "split": split, "download": download})
        host = np.random.default_rng(len(split))
        self.data = host.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
        self.labels = np.arange(6) % 3


@pytest.mark.parametrize("name", ["SVHN", "STL10"])
def test_arrays_with_channels_first_are_turned(name, tmp_path, monkeypatch):
    Fake.calls = []
    monkeypatch.setattr(datasets, name, Fake)
    builtin._load.cache_clear()
    source = load_source(asked(name), tmp_path)

    assert Fake.calls == [{"root": tmp_path, "split": s, "download": False} for s in ("train", "test")]
    assert (source.train_images == Fake(tmp_path, split="train", download=False).data.transpose(0, 2, 3, 1)).all()
    assert source.classes == ("0", "1", "2")
    builtin._load.cache_clear()


@pytest.mark.parametrize("name", builtin.KINDS)
def test_torchvisions_classes_take_what_they_are_given(name):
    known = inspect.signature(getattr(datasets, name)).parameters
    assert {"root", "download", *(key for args in builtin.KINDS[name].splits.values() for key in args)} <= set(known)
