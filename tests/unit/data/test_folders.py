from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from harness.cpus import Cpus
from harness.data import content, decoding, folders, sources
from harness.data.rows import PhotoRows, rows_of
from harness.data.sources import load_source
from harness.data.types import Source
from harness.errors import UserError
from harness.experiment import Data

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    sources._load.cache_clear()


def folder(root: Path, name: str = "pets", size: int = 8, **more: Any) -> Source:
    data = {"name": "folder", "root": name, "val_size": 1, "image_size": size, **more}
    return load_source(Data.model_validate(data), root)


def squares(source: Source, split: str = "train") -> np.ndarray:
    """All images of a split as they are evaluated, (N, side, side, 3)."""
    return rows_of(getattr(source, f"{split}_images"))[:].numpy()


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


def test_a_folder_gives_the_pixels_and_labels_of_its_files(tmp_path: Path) -> None:
    tree(tmp_path / "pets")
    source = folder(tmp_path)
    assert source.classes == ("cat", "dog")
    assert squares(source).shape == (4, 8, 8, 3)
    assert source.train_labels.tolist() == [0, 0, 1, 1]
    assert source.test_labels is not None
    assert source.test_labels.tolist() == [0, 1]
    for images, labels in (
        (squares(source), source.train_labels),
        (squares(source, "test"), source.test_labels),
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
    images = squares(folder(tmp_path, size=61), "test")
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
    source = folder(tmp_path, window=(0, 65535))
    assert source.unreadable == ()
    centres = squares(source)[2:7, 4, 4].astype(int)
    expected = [(100, 100, 100), (51, 51, 51), RED, GREEN, RED]
    assert np.abs(centres - np.array(expected)).max() <= 3


def test_files_that_cannot_be_decoded_are_left_out_and_reported(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets") / "train"
    for name in range(2, 8):
        save(root / "cat" / f"{name}.png")
    save(root / "dog" / "2.png", GREEN)
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
        assert source.train_labels.tolist() == [0] * 8 + [1] * 3
        assert np.array_equal(squares(source)[8:, 0, 0], [GREEN] * 3)


def fill(root: Path, count: int = 8) -> Path:
    """`tree` with more training images of cats, so that some may be lost; the folder of these cats."""
    cats = tree(root) / "train" / "cat"
    for name in range(2, count):
        save(cats / f"{name}.png")
    return cats


def test_a_class_that_lost_more_than_a_quarter_of_its_files_is_refused(tmp_path: Path) -> None:
    cats = fill(tmp_path / "pets")
    for name in (1, 2):
        (cats / f"{name}.png").write_bytes((cats / f"{name}.png").read_bytes()[:45])
    assert len(folder(tmp_path).unreadable) == 2  # of 8
    (cats / "3.png").unlink()
    (cats / "3.png").symlink_to("nowhere")
    expected = r"pets/train/cat: 3 of 8 files cannot be read \(train/cat/3.png: a link to nothing\); at most 25%"
    with pytest.raises(UserError, match=expected):
        folder(tmp_path)


def test_images_are_decoded_once_until_their_bytes_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tree(tmp_path / "pets") / "train" / "cat" / "0.png"
    opened: list[object] = []
    open_image: Callable[..., Image.Image] = Image.open
    monkeypatch.setattr(Image, "open", lambda file: (opened.append(file), open_image(file))[1])
    first = folder(tmp_path)
    assert len(opened) == 6
    assert isinstance(first.train_images, PhotoRows)
    assert folder(tmp_path) is first
    sources._load.cache_clear()
    os.utime(path, ns=(1, 1))
    assert folder(tmp_path).digest == first.digest
    assert len(opened) == 6
    save(path, GREEN)
    again = folder(tmp_path)  # in the same process, with nothing cleared
    assert len(opened) == 12
    assert again.digest != first.digest
    assert squares(again)[0, 0, 0].tolist() == list(GREEN)
    assert squares(first)[0, 0, 0].tolist() == list(RED)


def test_damaged_decoded_arrays_are_made_anew(tmp_path: Path) -> None:
    tree(tmp_path / "pets")
    expected = squares(folder(tmp_path))
    (pixels,) = (tmp_path / ".harness-decoded").glob("*/train.npy")
    report, index = pixels.with_suffix(".json"), pixels.with_suffix(".index.npy")
    half, wrong = pixels.read_bytes()[:400], json.dumps([(0, "train/cat/0.png", "no such loss")]).encode()
    for path, damage in (
        (pixels, half),
        (pixels, b""),
        (index, half),
        (index, index.read_bytes()[:-64]),
        (report, b"["),
        (report, b"7"),
        (report, wrong),
    ):
        sources._load.cache_clear()
        path.write_bytes(damage)
        assert np.array_equal(squares(folder(tmp_path)), expected)


def test_another_size_or_version_of_the_decoder_has_a_copy_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "pets")
    digest = folder(tmp_path).digest
    assert folder(tmp_path, size=9).digest == digest
    monkeypatch.setattr(content, "pillow", lambda: "1.0")
    sources._load.cache_clear()
    assert folder(tmp_path).digest == digest
    assert len(list((tmp_path / ".harness-decoded").glob("*/val.npy"))) == 3


def test_a_file_that_changes_between_hashing_and_decoding_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tree(tmp_path / "pets") / "train" / "dog" / "1.png"
    decode = decoding.decode

    def change_then_decode(file: Path, *args: Any) -> Any:
        if file == path:
            save(path, RED)
        return decode(file, *args)

    monkeypatch.setattr(folders, "decode", change_then_decode)
    with pytest.raises(UserError, match=r"train/dog/1\.png changed while it was read; start again"):
        folder(tmp_path)
    assert not list((tmp_path / ".harness-decoded").glob("*/*.npy"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
    ],
)
@pytest.mark.parametrize("where", ["while it is read", "in the decoder"])
def test_what_fails_in_the_machine_ends_decoding_and_loses_no_image(
    where: str, error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "pets")
    for i in range(2, 8):  # one of so many may be lost
        save(tmp_path / "pets" / "train" / "dog" / f"{i}.png", GREEN)
    unlucky = tmp_path / "pets" / "train" / "dog" / "1.png"
    decode = decoding.decode

    def fail(*args: Any) -> Any:
        raise error

    def fail_once(file: Path, *args: Any) -> Any:
        with monkeypatch.context() as patched:
            if file == unlucky and where == "in the decoder":
                patched.setattr(decoding, "_to_rgb", fail)
            elif file == unlucky:
                patched.setattr(Path, "read_bytes", fail)
            return decode(file, *args)

    monkeypatch.setattr(decoding, "available", lambda: Cpus(1, "1"))  # one thread, whose patch is no other's
    with monkeypatch.context() as patched:
        patched.setattr(folders, "decode", fail_once)
        with pytest.raises(UserError, match=rf"train/dog/1\.png cannot be read now \({told}\)"):
            folder(tmp_path)
    assert folder(tmp_path).unreadable == ()


def ramp(path: Path, white: float, kind: Any) -> None:
    """A grey ramp of 8 x 8 values from 0 to `white`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.linspace(0, 1, 64).reshape(8, 8) * white).astype(kind)).save(path)


DEEP = pytest.mark.parametrize(
    ("file", "white", "kind"),
    [
        ("12-bit.png", 4095, np.uint16),
        ("16-bit.png", 65535, np.uint16),
        ("int32.tif", 255, np.int32),
        ("large.tif", 200_000, np.int32),
        ("float.tif", 1.0, np.float32),
    ],
)


@DEEP
def test_deep_grey_images_keep_their_shades_in_the_declared_window(
    file: str, white: float, kind: Any, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            ramp(tmp_path / "pets" / split / label / file, white, kind)
    source = folder(tmp_path, window=(0, white))
    expected = np.linspace(0, 255, 64).reshape(8, 8, 1)
    assert source.unreadable == ()
    assert np.abs(squares(source).astype(float) - expected).max() <= 1
    half = squares(folder(tmp_path, window=(0, white / 2)))[0, ..., 0]
    assert (half.ravel()[32:] == 255).all()
    assert half.ravel()[16] == pytest.approx(255 * 16 / 31.5, abs=2)


@DEEP
def test_deep_grey_images_without_a_scale_are_left_out_with_the_reason(
    file: str, white: float, kind: Any, tmp_path: Path
) -> None:
    ramp(fill(tmp_path / "pets") / file, white, kind)
    source = folder(tmp_path)
    ((path, why),) = source.unreadable
    assert path == f"train/cat/{file}"
    assert f"grey values from 0 to {white:g} with no scale" in why
    assert "data.window = [0, 4095]" in why
    assert len(source.train_labels) == 10


def test_a_window_beyond_all_values_or_values_that_are_not_numbers_leave_the_image_out(tmp_path: Path) -> None:
    cats = fill(tmp_path / "pets")
    ramp(cats / "dark.png", 10, np.uint16)
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(cats / "nan.tif")
    reasons = dict(folder(tmp_path, window=(1000, 4095)).unreadable)
    assert reasons["train/cat/dark.png"].startswith("grey values from 0 to 10, which are all one in data.window")
    assert reasons["train/cat/nan.tif"] == "grey values that are not finite"


def test_sixteen_bit_colours_are_read_when_white_is_said_to_be_65535(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in np.full((8, 8, 3), 0x3300, ">u2"))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    (fill(tmp_path / "pets") / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    for window in (None, (0, 4095)):
        assert "16 bits a colour" in dict(folder(tmp_path, window=window).unreadable)["train/cat/deep.png"]
    source = folder(tmp_path, window=(0, 65535))
    assert source.unreadable == ()
    assert squares(source)[8, 0, 0].tolist() == [0x33] * 3


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
    (tmp_path / "none" / "val").mkdir()
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
