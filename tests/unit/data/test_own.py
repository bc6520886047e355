"""Data that code of the user's gives: arrays, or a map-style data set."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from harness import plugins
from harness.data.content import content
from harness.data.own import check
from harness.data.sources import load_source
from harness.data.splits import split
from harness.errors import UserError
from harness.experiment import Arm, Data, load_experiment, spec_of


def arrays(count=24, side=6, channels=(), seed=0):
    host = np.random.default_rng(seed)
    return host.integers(0, 256, (count, side, side, *channels), dtype=np.uint8), np.arange(count) % 3


def asked(**options):
    return Data(**({"name": "mine.py:load", "val_size": 6, "test_size": 6} | options))


def checked(found, **options):
    return check(found, asked(**options), "load")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes mine.py anew, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_files", {})

    def write(text):
        (tmp_path / "mine.py").write_text(text)
        plugins._files.clear()
        return tmp_path

    return write


LOAD = """
import numpy as np

def load(root, seed=0, groups=False):
    host = np.random.default_rng(seed)
    images = host.integers(0, 256, (24, 6, 6), dtype=np.uint8)
    labels = np.arange(24) % 3
    return (images, labels, np.arange(24) // 4) if groups else (images, labels)
"""


def test_arrays_of_a_function_are_split_for_each_seed(mine):
    root = mine(LOAD)
    source = load_source(asked(), root)

    assert (source.train_images[..., 0] == arrays()[0]).all()
    assert source.classes == ("0", "1", "2")
    assert not source.invariances.color
    parts = split(source, asked(), 0)
    assert [len(part.label) for part in (parts.train, parts.val, parts.test)] == [12, 6, 6]
    assert content(asked(), root).images == 24
    other = asked(args={"seed": 1})
    assert other.args == (("seed", 1),)
    assert content(other, root).digest != content(asked(), root).digest
    assert load_source(asked(image_size=4, classes=2), root).train_images.shape == (16, 4, 4, 1)


def test_the_digest_is_of_the_images_and_not_of_the_code(mine):
    root = mine(LOAD)
    first = content(asked(), root).digest
    mine("# a comment\n" + LOAD)
    assert content(asked(), root).digest == first
    mine(LOAD.replace("% 3", "% 2"))
    assert content(asked(), root).digest != first


def test_groups_stay_in_one_split(mine):
    root = mine(LOAD)
    options = asked(args={"groups": True}, val_size=4, test_size=4)
    source = load_source(options, root)
    parts = split(source, options, 1)
    groups = [set(source.groups[part.index].tolist()) for part in (parts.train, parts.val, parts.test)]
    assert [len(g) for g in groups] == [4, 1, 1]
    assert set.union(*groups) == set(range(6))


SCANS = """
from PIL import Image
import numpy as np

class Scans:
    classes = ["ill", "well"]
    def __init__(self, first, count):
        self.first, self.count = first, count
    def __len__(self):
        return self.count
    def __getitem__(self, i):
        assert 0 <= i < self.count
        i += self.first
        return Image.fromarray(np.full((9, 7 + i % 3), 60 * i, dtype=np.uint16)), i % 2

def load(root):
    return {"train": Scans(0, 20), "val": Scans(20, 8), "test": Scans(28, 6)}
"""


def test_a_map_style_data_set_with_its_own_splits_is_decoded_into_the_shared_copy(mine):
    root = mine(SCANS)
    options = asked(image_size=8, channels=1, window=[0, 4095], val_size=8, test_size=None)
    source = load_source(options, root)

    assert source.classes == ("ill", "well")
    assert [len(labels) for labels in (source.train_labels, source.val_labels, source.test_labels)] == [20, 8, 6]
    greys = [round(60 * i * 255 / 4095) for i in range(34)]
    found = [*source.train_images[:], *source.val_images[:], *source.test_images[:]]
    assert [int(image[0, 0, 0]) for image in found] == greys
    (copy,) = [p for p in (root / ".harness-decoded").iterdir() if p.is_dir()]
    assert json.loads((copy / "about.json").read_text())["kind"] == "mine.py:load"
    assert split(source, options, 0).val.label.tolist() == [i % 2 for i in range(20, 28)]


def test_a_data_set_of_torch_and_names_as_labels():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return torch.full((3, 5, 5), i, dtype=torch.uint8), ["b10", "b2"][i % 2]

    found = checked(Pairs(), image_size=5)
    assert found.classes == ("b2", "b10")
    assert found.labels["train"].tolist() == [1, 0, 1, 0]
    assert found.images == 4


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (3, "load, train: a int; it must be arrays"),
        ({"train": arrays(), "dev": arrays(seed=1)}, r"it gives 'dev'\. It may give: train, val, test"),
        ({"test": arrays()}, "it gives test and no 'train'"),
        ((arrays()[0], np.arange(23)), "24 images, 23 labels; each image needs one"),
        ((arrays()[0], np.arange(24) / 2), "labels are float; they must all be whole numbers from 0, or all names"),
        ((arrays()[0], np.arange(24) % 3 - 1), "train has the label -1, and there are 2 classes"),
        ((arrays()[0], np.arange(24) % 2 * 2), "class '1' has no image in train"),
        ((arrays()[0], np.zeros(24, int)), "one class"),
        ({"train": arrays(), "test": (arrays(seed=1)[0], np.full(24, 3))}, "test has the label 3, and there are 3"),
        ({"train": arrays(), "classes": ["a", "b"]}, "train has the label 2, and there are 2 classes"),
        ([(arrays()[0][0], 0), 7], "item 1 is a int; items are"),
        ([("a.png", 0), ("b.png", 1)], "item 0: str of <U5 is no image"),
        ([(arrays()[0][0], 0, "p"), (arrays()[0][1], 1)], "1 of 2 items have a group; all or none must"),
        (
            {"train": (*arrays(), np.arange(24)), "test": (*arrays(seed=1), np.arange(20, 44))},
            r"4 groups \(20, 21, 22, 23\) have images in train and in test, so the test would leak",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(found, said):
    with pytest.raises(UserError, match=said):
        checked(found)


def test_an_image_in_two_splits_is_a_leak():
    images, labels = arrays()
    other, more = arrays(seed=1)
    assert checked({"train": (images, labels), "test": (other, more)}, test_size=None).leak == (""), (
        "val is drawn, and no image of train is there twice"
    )
    other[:2] = images[:2]
    assert "2 in train and in test" in checked({"train": (images, labels), "test": (other, more)}).leak
    images[3] = images[0]
    assert "1 twice in train, from which a split is drawn" in checked((images, labels)).leak
    assert checked((images, labels, np.arange(24) % 3)).leak == "", "copies of one group stay together"


def test_images_that_need_a_size_or_a_window_say_so(mine):
    root = mine(SCANS)
    with pytest.raises(UserError, match=r"not all square bytes of one size; say data.image_size"):
        load_source(asked(val_size=8), root)
    with pytest.raises(UserError, match=r"image train 0 cannot be used: grey values from 0 to 0 with no scale"):
        load_source(asked(val_size=8, image_size=8), root)
    mine(SCANS.replace("60 * i,", "60 * i + np.random.randint(0, 50),"))
    with pytest.raises(UserError, match=r"item \d+ is another image the second time; draw nothing at random"):
        load_source(asked(val_size=8, image_size=8, window=[0, 4095]), root)


def test_a_function_that_is_missing_or_fails_is_named(mine):
    root = mine(LOAD)
    with pytest.raises(UserError, match=r"mine.py defines no lod; did you mean 'load'"):
        load_source(asked(name="mine.py:lod"), root)
    with pytest.raises(UserError, match=r"args {'sed': 1}, it fails: TypeError: .*'sed'"):
        load_source(asked(args={"sed": 1}), root)
    with pytest.raises(ValueError, match=r"unknown data set; did you mean 'digits'. Known: digits, cifar10"):
        asked(name="digitz")
    with pytest.raises(ValueError, match=r"args belongs to hf, own, .* data sets, and this is digits"):
        asked(name="digits", args={"a": 1})


def test_permission_to_download_is_no_part_of_a_run():
    options = {"data": {"name": "torchvision/FashionMNIST", "val_size": 100}}
    plain = load_experiment("digits", options)
    allowed = load_experiment("digits", {"data": options["data"] | {"download": True}})
    assert allowed.data.download
    assert spec_of(plain, Arm(), 0).run_id == spec_of(allowed, Arm(), 0).run_id


def test_a_study_of_own_data_and_an_own_network_in_one_plug_in(mine, monkeypatch):
    from harness.cli import main
    from harness.store.reader import read_kind, read_manifest

    root = mine(LOAD.replace("    labels =", "    images[4] = images[1]\n    labels =") + NET)
    (root / "mine.toml").write_text(STUDY)
    words = ["harness", "ablate", "label_smoothing", "-e", "mine.toml", "--data-root", ".", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--workers", "1", "--results", "r", "--reports", "p"])
    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code in (0, None)
    (folder,) = [p for p in (root / "r").iterdir() if (p / "study.json").exists()]
    manifest = read_manifest(folder)
    runs, _, _ = read_kind(folder, "runs", manifest.runs)
    assert [str(status) for status in runs["status"]] == ["ok"] * 4
    assert manifest.data == content(asked(), root).digest
    assert "1 twice in train, from which a split is drawn" in manifest.leak


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, classes)
    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
"""

STUDY = """
[experiment]
name = "mine"
[data]
name = "mine.py:load"
val_size = 6
test_size = 6
[model]
name = "mine.py:Net"
[recipe]
epochs = 2
batch_size = 4
lr = 0.05
"""


def test_sixteen_bits_of_a_tensor_and_of_an_array_are_the_same_picture():
    from harness.data.given import as_image

    grey = np.arange(30, dtype=np.uint16).reshape(5, 6) * 100
    for value in (grey, grey[:, :, None], torch.from_numpy(grey.astype(np.int32))[None], Image.fromarray(grey)):
        assert (np.asarray(as_image(value)) == grey).all()
    with pytest.raises(ValueError, match=r"ndarray of uint8 and shape \(3, 5, 6\); an image is"):
        as_image(np.zeros((3, 5, 6), np.uint8))
