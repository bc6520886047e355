from __future__ import annotations

import socket
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness.data.cifar import load_cifar
from harness.data.disk import data_root
from harness.data.listing import choose_classes
from harness.data.sources import load_source
from harness.data.types import Source
from harness.errors import UserError
from harness.experiment import Data


def digits(**more: Any) -> Source:
    return load_source(Data.model_validate({"name": "digits", "val_size": 1, **more}), Path("unused"))


# digits and classes


def test_digits_have_the_levels_of_scikit_learn() -> None:
    source = digits()
    assert source.train_images.shape == (1797, 8, 8, 1)
    assert (source.train_images.dtype, source.train_images.max(), source.peak) == (np.uint8, 16, 16)
    bunch = load_digits()
    assert np.array_equal(source.train_images[..., 0], bunch.images)
    assert np.array_equal(source.train_labels, bunch.target)
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
    monkeypatch.setenv("HOME", "/the/home")
    monkeypatch.setenv("HARNESS_DATA", "~/A")
    assert data_root() == Path("/the/home/A")
    monkeypatch.delenv("HARNESS_DATA")
    assert data_root() == Path("/the/home/.cache/harness")
    monkeypatch.setattr(Path, "expanduser", no_home)
    assert data_root() == Path(tempfile.gettempdir()) / "harness"
    monkeypatch.setenv("HARNESS_DATA", "~/A")
    with pytest.raises(UserError, match="~/A: there is no home folder"):
        data_root()


def no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


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


def test_a_data_root_that_is_the_folder_of_cifar_itself_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: pytest.fail("a download was tried"))
    inside = tmp_path / "cifar-10-batches-py"
    inside.mkdir()
    with pytest.raises(UserError, match=f"folder that holds it, {tmp_path}, with --data-root"):
        load_cifar("cifar10", inside)
    assert list(inside.iterdir()) == []


def test_a_damaged_archive_is_named_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: pytest.fail("a download was tried"))
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz is damaged or incomplete .*; delete it"):
        load_cifar("cifar10", tmp_path)
