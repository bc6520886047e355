from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from harness.data import sources
from harness.data.cifar import load_cifar
from harness.data.sources import Source, choose_classes, data_root, load_source
from harness.errors import UserError
from harness.experiment import Data

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    sources._load.cache_clear()


def digits(**more: Any) -> Source:
    return load_source(Data.model_validate({"name": "digits", "val_size": 1, **more}), Path("unused"))


def folder(root: Path, name: str = "pets", size: int = 8, **more: Any) -> Source:
    data = {"name": "folder", "root": name, "val_size": 1, "image_size": size, **more}
    return load_source(Data.model_validate(data), root)


def save(path: Path, color: object = RED, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)  # type: ignore[arg-type]
    return path


def tree(root: Path) -> Path:
    """Two classes, two training images and one validation image each."""
    for label, color in (("cat", RED), ("dog", GREEN)):
        save(root / "train" / label / "0.png", color)
        save(root / "train" / label / "1.png", color)
        save(root / "val" / label / "0.png", color)
    return root


# digits and classes


def test_digits_have_the_levels_of_scikit_learn() -> None:
    source = digits()
    assert source.train_images.shape == (1797, 8, 8, 1)
    assert (source.train_images.dtype, source.train_images.max(), source.peak) == (np.uint8, 16, 16)
    assert source.train_labels[:4].tolist() == [0, 1, 2, 3]
    assert source.test_images is None
    assert not source.invariances.flip
    assert not source.invariances.color


def test_a_source_is_loaded_once_for_all_runs_on_it() -> None:
    assert digits(label_noise=0.1) is digits(val_size=7)


def test_image_size_resizes_and_keeps_peak() -> None:
    source = digits(image_size=16)
    assert source.train_images.shape == (1797, 16, 16, 1)
    assert source.train_images.max() <= source.peak == 16
    # At twice the side, pixel 1 lies a quarter of the way from the old pixel 0 to the old pixel 1.
    a, b, c, d = digits().train_images[:, [0, 0, 1, 1], [2, 3, 2, 3], 0].T.astype(float)
    assert np.abs(source.train_images[:, 1, 5, 0] - (9 * a + 3 * b + 3 * c + d) / 16).max() <= 0.5
    assert source.digest != digits().digest


@pytest.mark.parametrize(("classes", "names"), [(2, ("0", "1")), (("7", "3"), ("7", "3"))])
def test_classes_keep_the_first_or_the_named_ones(classes: Any, names: tuple[str, ...]) -> None:
    source, whole = digits(classes=classes), digits()
    assert source.classes == names
    for label, name in enumerate(names):
        assert np.array_equal(
            source.train_images[source.train_labels == label],
            whole.train_images[whole.train_labels == int(name)],
        )
    assert len(source.train_labels) == np.isin(whole.train_labels, [int(name) for name in names]).sum()


def test_impossible_classes_are_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match=r"classes = 11.* 10"):
        digits(classes=11)
    with pytest.raises(UserError, match=r"'bird'; did you mean 'birds'\?"):
        choose_classes(("bird", "cats"), ("birds", "cats"))
    with pytest.raises(UserError, match="'cats' is named twice"):
        choose_classes(("cats", "cats"), ("birds", "cats"))


def test_the_data_root_is_the_environment_variable_or_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA", "/some/where")
    assert data_root() == Path("/some/where")
    monkeypatch.delenv("HARNESS_DATA")
    assert data_root() == Path.home() / ".cache" / "harness"


# CIFAR


def no_network(*args: object, **kwargs: object) -> None:
    raise urllib.error.URLError("no network")


@pytest.mark.parametrize(
    ("name", "file", "archive"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python/train", "cifar-100-python.tar.gz"),
    ],
)
def test_missing_cifar_without_network_says_what_to_fetch(
    name: str,
    file: str,
    archive: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(UserError) as error:
        load_cifar(name, tmp_path / "data")
    text = str(error.value)
    expected = (
        str(tmp_path / "data" / file),
        archive,
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "no network",
    )
    assert all(part in text for part in (*expected, "--experiment digits"))
    assert capfd.readouterr().out == ""
    assert list((tmp_path / "data").iterdir()) == []
    assert socket.getdefaulttimeout() is None


def test_damaged_cifar_names_the_file(tmp_path: Path) -> None:
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in names:
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(b"not a pickle")
    with pytest.raises(UserError, match="cifar-10-batches-py/data_batch_1: damaged"):
        load_cifar("cifar10", tmp_path)


# folders


def test_a_folder_gives_the_pixels_and_labels_of_its_files(tmp_path: Path) -> None:
    tree(tmp_path / "pets")
    source = folder(tmp_path)
    assert source.classes == ("cat", "dog")
    assert source.train_images.shape == (4, 8, 8, 3)
    assert source.train_labels.tolist() == [0, 0, 1, 1]
    assert source.test_images is not None
    assert source.test_labels is not None
    assert source.test_labels.tolist() == [0, 1]
    for images, labels in (
        (source.train_images, source.train_labels),
        (source.test_images, source.test_labels),
    ):
        assert np.array_equal(images, np.broadcast_to(np.array([RED, GREEN])[labels, None, None], images.shape))
    assert (source.peak, source.unreadable) == (255, ())


def test_the_data_root_itself_or_an_absolute_path_may_be_the_data_set(tmp_path: Path) -> None:
    tree(tmp_path / "pets")
    expected = folder(tmp_path).digest
    assert folder(tmp_path / "pets", "imagenette").digest == expected
    assert folder(tmp_path / "elsewhere", str(tmp_path / "pets")).digest == expected


def test_a_real_photo_is_resized_by_its_shorter_side_and_cropped_to_the_centre(tmp_path: Path) -> None:
    photo = load_sample_images().images[0]  # 427 x 640
    tree(tmp_path / "pets")
    Image.fromarray(photo).save(tmp_path / "pets" / "val" / "cat" / "0.png")
    images = folder(tmp_path, size=61).test_images
    assert images is not None
    # 427 = 7 * 61: the mean of each 7 x 7 tile of the central square is close to an antialiased pixel.
    tiles = photo[:, 106:533].reshape(61, 7, 61, 7, 3).mean((1, 3))
    assert np.abs(images[0] - tiles).mean() < 5


def test_other_colour_modes_become_rgb(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets") / "train" / "cat"
    save(root / "a.jpg", 100, "L")
    save(root / "b.png", 51 * 256, "I;16")
    save(root / "c.png", (255, 0, 0, 128), "RGBA")
    Image.new("RGB", (9, 9), GREEN).quantize(4).save(root / "d.png", transparency=b"\x80")
    save(root / "e.jpg", (0, 255, 255, 0), "CMYK")
    source = folder(tmp_path)
    assert source.unreadable == ()
    centres = source.train_images[2:7, 4, 4].astype(int)
    expected = [(100, 100, 100), (51, 51, 51), RED, GREEN, RED]
    assert np.abs(centres - np.array(expected)).max() <= 3


def test_files_that_cannot_be_decoded_are_left_out_and_reported(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets") / "train"
    Image.fromarray(load_sample_images().images[0]).save(root / "cat" / "cut.jpg")
    (root / "cat" / "cut.jpg").write_bytes((root / "cat" / "cut.jpg").read_bytes()[:20_000])
    (root / "cat" / "text.jpg").write_text("no pixels here")
    (root / "dog" / "0.jpg").touch()
    for again in range(2):  # the second time from the decoded arrays
        sources._load.cache_clear()
        source = folder(tmp_path)
        reasons = dict(source.unreadable)
        assert set(reasons) == {"train/cat/cut.jpg", "train/cat/text.jpg", "train/dog/0.jpg"}, again
        assert "truncated" in reasons["train/cat/cut.jpg"]
        assert "cannot identify" in reasons["train/cat/text.jpg"]
        assert source.train_labels.tolist() == [0, 0, 1, 1]
        assert np.array_equal(source.train_images[2:, 0, 0], [GREEN, GREEN])


def test_clutter_is_ignored(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets") / "train"
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "dog/._0.png"):
        (root / name).write_bytes(b"clutter")
    (root / ".ipynb_checkpoints").mkdir()
    source = folder(tmp_path)
    assert (source.classes, len(source.train_labels), source.unreadable) == (("cat", "dog"), 4, ())


def test_images_are_decoded_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree(tmp_path / "pets") / "train" / "cat" / "0.png"
    opened: list[Path] = []
    open_image: Callable[[Path], Image.Image] = Image.open
    monkeypatch.setattr(Image, "open", lambda path: (opened.append(path), open_image(path))[1])
    first = folder(tmp_path)
    assert len(opened) == 6
    assert isinstance(first.train_images, np.memmap)
    assert not first.train_images.flags.writeable
    sources._load.cache_clear()
    assert folder(tmp_path).digest == first.digest
    assert len(opened) == 6
    os.utime(path, ns=(1, 1))
    sources._load.cache_clear()
    assert folder(tmp_path).digest == first.digest
    assert len(opened) == 12


def test_the_digest_names_the_data_and_not_its_place(tmp_path: Path) -> None:
    tree(tmp_path / "a" / "pets")
    tree(tmp_path / "b" / "pets")
    digest = folder(tmp_path / "a").digest
    assert folder(tmp_path / "b").digest == digest
    assert folder(tmp_path / "a", size=9).digest != digest
    save(tmp_path / "b" / "pets" / "train" / "cat" / "2.png")
    sources._load.cache_clear()
    assert folder(tmp_path / "b").digest != digest


def test_decoded_arrays_go_to_the_users_cache_when_the_data_root_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "shared" / "pets")
    make = Path.mkdir

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.is_relative_to(tmp_path / "shared"):
            raise PermissionError(13, "read-only")
        make(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert len(folder(tmp_path / "shared").train_labels) == 4
    assert list((tmp_path / "home" / ".cache" / "harness").rglob("train.npy"))


def test_classes_of_a_folder_are_chosen_before_decoding(tmp_path: Path) -> None:
    tree(tmp_path / "pets")
    for split in ("train", "val"):
        save(tmp_path / "pets" / split / "eel" / "0.png", GREEN)
    source = folder(tmp_path, classes=("eel", "cat"))
    assert source.classes == ("eel", "cat")
    assert source.train_labels.tolist() == [0, 1, 1]
    with pytest.raises(UserError, match=r"'eal'; did you mean 'eel'\?"):
        folder(tmp_path, classes=("eal", "cat"))


def remove(path: Path) -> None:
    for child in path.iterdir() if path.is_dir() else ():
        remove(child)
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (".", "pets does not exist: .*train/<class>/"),
        ("train", "pets/train does not exist"),
        ("val", "pets/val does not exist"),
        ("val/dog", "same class folders, but 'dog' only in train"),
        ("train/dog", "same class folders, but 'dog' only in val"),
        ("val/dog/0.png", "pets/val/dog: no readable image;"),
    ],
)
def test_an_incomplete_folder_is_refused_with_what_was_expected(gone: str, message: str, tmp_path: Path) -> None:
    remove(tree(tmp_path / "pets") / gone)
    with pytest.raises(UserError, match=message):
        folder(tmp_path)


def test_a_folder_without_classes_or_with_one_or_without_readable_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="none/train has no class folders"):
        folder(tmp_path, "none")
    save(tmp_path / "one" / "train" / "cat" / "0.png")
    save(tmp_path / "one" / "val" / "cat" / "0.png")
    with pytest.raises(UserError, match=r"one class folder \('cat'\)"):
        folder(tmp_path, "one")
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            save(tmp_path / "bad" / split / label / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"bad/train/cat: no readable image \(train/cat/0.png: "):
        folder(tmp_path, "bad")
