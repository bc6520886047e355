"""What `harness doctor` says of decoded copies of image folders."""

from pathlib import Path

import pytest
from PIL import Image

from harness.data import decoded
from harness.data.sources import load_source
from harness.experiment import Data
from harness.study import doctor


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with a folder of images that was decoded once."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for split in ("train", "val"):
        for name, color in (("cat", "red"), ("dog", "green")):
            path = tmp_path / "root" / "pets" / split / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), color).save(path)
    load(tmp_path / "root")
    return tmp_path / "root"


def load(root, **more):
    data = {"name": "folder", "root": "pets", "val_size": 1, "image_size": 8, **more}
    return load_source(Data.model_validate(data), root)


def test_copies_in_use_are_counted_with_their_folder(root):
    load(root, image_size=16)
    load(root, classes=("dog", "cat"), window=(0, 9))

    assert doctor._decoded(root) == f"3 decoded copies of image folders, 0.0 GB in {root / '.harness-decoded'}"
    assert doctor._decoded(root / "pets") == "no decoded copies of image folders"


def unsaid(root, copy):
    (copy / "about.json").unlink()


def unfinished(root, copy):
    (copy / "test.npy").unlink()


def replaced(root, copy):
    Image.new("RGB", (8, 8), "blue").save(root / "pets" / "val" / "dog" / "0.png")


def removed(root, copy):
    (root / "pets" / "val").rename(root / "pets" / "away")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (unsaid, "of an older version"),
        (unfinished, "unfinished, unless it is being written now"),
        (replaced, "pets has other images now"),
        (removed, "pets is gone or incomplete"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_copy_that_no_study_would_read_is_named_with_the_reason(root, change, why):
    (copy,) = (path for path in (root / ".harness-decoded").iterdir() if path.is_dir())
    change(root, copy)

    said = doctor._decoded(root)

    assert f"; of no present use, to delete: {copy.name} (0.0 GB, " in said
    assert said.endswith(f"{why})")


def test_a_copy_of_another_decoder_is_of_no_use(root, monkeypatch):
    monkeypatch.setattr(doctor, "pillow", lambda: "99")

    assert f"decoded by Pillow {decoded.pillow()})" in doctor._decoded(Path(root))


def test_a_copy_of_an_older_version_of_the_decoder_is_of_no_use(root, monkeypatch):
    monkeypatch.setattr(doctor, "DECODER", "99")

    assert "decoded by an older version)" in doctor._decoded(Path(root))
