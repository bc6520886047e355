"""Data sets of one .npz file, with the keys of MedMNIST."""

import hashlib

import numpy as np
import pytest

from harness.data.arrays import npz_digest
from harness.data.content import content
from harness.data.sources import load_source
from harness.data.splits import split
from harness.errors import UserError
from harness.experiment import Data

DATA = Data(name="npz", root="med.npz", val_size=6)


def arrays(**changed):
    host = np.random.default_rng(0)
    made = {}
    for name, count in (("train", 20), ("val", 10), ("test", 8)):
        made[f"{name}_images"] = host.integers(0, 256, (count, 6, 6), dtype=np.uint8)
        made[f"{name}_labels"] = (np.arange(count) % 2)[:, None]
    return {name: value for name, value in (made | changed).items() if value is not None}


def test_grey_images_keep_one_channel_and_each_split_is_that_of_the_file(tmp_path):
    made = arrays()
    np.savez(tmp_path / "med.npz", **made)
    source = load_source(DATA, tmp_path)

    assert source.train_images.shape == (20, 6, 6, 1)
    assert (source.val_images[..., 0] == made["val_images"]).all()
    assert (source.test_images[..., 0] == made["test_images"]).all()
    assert not source.invariances.color
    parts = split(source, DATA, 0)
    assert [len(part.label) for part in (parts.train, parts.val, parts.test)] == [20, 6, 8]
    assert (parts.val.rows[:].numpy() == source.val_images[parts.val.index]).all()
    assert np.bincount(parts.val.label).tolist() == [3, 3]
    with pytest.raises(UserError, match=r"data\.val_size = 11: the validation split has 10 images; ask for at most"):
        split(source, DATA.model_copy(update={"val_size": 11}), 0)
    assert (content(DATA, tmp_path).images, content(DATA, tmp_path).classes) == (38, 2)
    first = content(DATA, tmp_path).digest
    np.savez(tmp_path / "med.npz", **arrays(train_labels=np.arange(20) // 10))
    assert content(DATA, tmp_path).digest != first


def test_an_own_validation_split_is_another_identity_than_the_bytes_alone(tmp_path):
    """Such a file's val images were drawn with train's before, so its runs must not be taken for the same."""
    np.savez(tmp_path / "med.npz", **arrays())
    plain = hashlib.sha256((tmp_path / "med.npz").read_bytes()).hexdigest()[:16]
    assert npz_digest(DATA, tmp_path) != plain
    np.savez(tmp_path / "med.npz", **arrays(val_images=None, val_labels=None))
    assert npz_digest(DATA, tmp_path) == hashlib.sha256((tmp_path / "med.npz").read_bytes()).hexdigest()[:16]


def test_labels_of_a_file_take_the_place_of_those_of_train(tmp_path):
    np.savez(tmp_path / "med.npz", **arrays())
    np.save(tmp_path / "said.npy", np.ones(20, int))
    said = Data(name="npz", root="med.npz", val_size=6, labels="said.npy")
    assert split(load_source(said, tmp_path), said, 0).train.label.tolist() == [1] * 20


def test_without_test_images_a_size_is_asked_for(tmp_path):
    np.savez(tmp_path / "med.npz", **arrays(test_images=None, test_labels=None))
    source = load_source(DATA, tmp_path)

    assert source.test_images is None
    with pytest.raises(UserError, match=r"data\.test_size is missing"):
        split(source, DATA, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_images": None}, "no array train_images"),
        ({"val_labels": None}, "val_images and no val_labels"),
        ({"train_images": np.zeros((20, 6, 5), np.uint8)}, r"uint8 of shape \(20, 6, 5, 1\)"),
        ({"train_images": np.zeros((20, 6, 6))}, "float64 of shape"),
        ({"train_labels": np.zeros(19, int)}, r"train_labels is int64 of shape \(19,\)"),
        ({"train_labels": np.arange(20) % 2 - 1}, "train_labels has -1"),
        ({"train_labels": np.arange(20) % 2 * 2, "val_labels": np.zeros(10, int)}, r"\[1\] have none"),
        ({"val_labels": np.full(10, 3)}, "val_labels has 3, of which there is no image to train on"),
        ({"test_labels": np.full(8, 2)}, "test_labels has 2"),
        ({"test_images": np.zeros((8, 7, 7), np.uint8)}, "different shapes"),
        ({"train_labels": np.array([{}] * 20)}, "without pickle"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, changed, said):
    np.savez(tmp_path / "med.npz", **arrays(**changed))
    with pytest.raises(UserError, match=said):
        load_source(DATA, tmp_path)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"med\.npz cannot be read"):
        load_source(DATA, tmp_path)
    with pytest.raises(ValueError, match="needs root"):
        Data(name="npz", val_size=6)
