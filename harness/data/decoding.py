"""Images decoded once, into a file from which training crops and squares are cut (`harness.data.rows`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from harness.cpus import available
from harness.data.decoded import KEPT, Failure, read_report
from harness.data.disk import atomic, shown
from harness.data.hashes import changed
from harness.data.rows import PhotoRows, Rows, resize, squares
from harness.data.types import Pixels
from harness.errors import UserError
from harness.experiment import Data

BLOCK_FILES = 1024
"""Files that are decoded ahead of the writer, which bounds the memory."""

Window = tuple[float, float] | None


@dataclass(frozen=True)
class Pictures:
    """The images of a split before they are decoded.

    names: of each, in order. decode: the image at a position as pixels (H, W, C), or why it cannot be read.
    alone: whether `decode` is somebody else's code, which threads need not bear.
    """

    names: Sequence[str]
    decode: Callable[[int], Pixels | str]
    alone: bool = False


def decoded(pictures: Pictures, data: Data, target: Path) -> tuple[Rows, list[Failure]]:
    """The readable images in order, read from the disk when they are needed, and those that failed.

    Args:
        pictures: the images.
        data: the `[data]` table; image_size and channels matter here.
        target: the path of the copy's files without their endings.

    Raises:
        UserError: they cannot be written.
    """
    pixels, index, report = (target.with_suffix(suffix) for suffix in (".npy", ".index.npy", ".json"))
    count, size, channels = len(pictures.names), data.image_size or 0, data.channels or 3
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError):  # missing, or damaged
        return _read(pixels, index, report, count, size, channels)
    failed: list[Failure] = []
    try:
        with atomic(pixels) as stream:
            table = _write(stream, pictures, size, channels, failed)
            # Index and report come before the pixels, whose presence says that all are complete.
            with atomic(index) as numbers:
                np.save(numbers, table)
            with atomic(report) as text:
                text.write(json.dumps(failed).encode())
    except OSError as error:
        need = count * (KEPT * size) ** 2 * channels * 4 / 3 / 1e9  # four thirds of a square
        raise UserError(
            f"{shown(pixels)} cannot be written ({error.strerror}); the decoded images need up to {need:.1f} GB there"
        ) from None
    return _read(pixels, index, report, count, size, channels)


def _read(pixels: Path, index: Path, report: Path, count: int, size: int, channels: int) -> tuple[Rows, list[Failure]]:
    """What `decoded` gives, of what lies on the disk.

    Raises:
        OSError, EOFError, ValueError, TypeError: it is missing or damaged.
    """
    table, failed, mapped = np.load(index), read_report(report), np.load(pixels, mmap_mode="r")
    sizes, sums = table[:, :2], table[:, 2:].reshape(-1, 2, channels)
    if len(table) != count - len(failed) or mapped.shape != (sizes.prod(1).sum() * channels,):
        raise ValueError(f"{pixels} does not hold what {index} says")
    return PhotoRows(pixels, torch.from_numpy(sizes), torch.from_numpy(sums), size, mapped.offset), failed


def _write(stream: IO[bytes], pictures: Pictures, size: int, channels: int, failed: list[Failure]) -> NDArray[np.int64]:
    """Write the pixels of the readable images as one flat .npy; those that fail are added to `failed` with the reason.

    Returns (N, 2 + 2 C), for each image height and width, and over its square the sums of values and of their squares.
    """
    table, total, count = [], 0, len(pictures.names)
    _header(stream, total)
    with ThreadPoolExecutor(1 if pictures.alone else available().count) as pool:
        for start in range(0, count, BLOCK_FILES):
            block = range(start, min(start + BLOCK_FILES, count))
            for position, image in zip(block, pool.map(pictures.decode, block), strict=True):
                if isinstance(image, str):
                    failed.append((position, shown(pictures.names[position]), image))
                else:
                    stream.write(image.data)
                    table.append([*image.shape[:2], *_sums(image, size)])
                    total += image.size
    # NumPy pads the header so that the first axis can be rewritten in place.
    stream.seek(0)
    _header(stream, total)
    return np.array(table, dtype=np.int64).reshape(-1, 2 + 2 * channels)


def _header(stream: IO[bytes], count: int) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (count,)})


def _sums(image: Pixels, size: int) -> list[int]:
    """Over the square that is evaluated, the sums of each channel's values and of their squares."""
    square = torch.empty(size, size, image.shape[2], dtype=torch.uint8)
    (box,) = squares(torch.tensor([image.shape[:2]])).tolist()
    resize(torch.from_numpy(image), box, square)
    values = square.long()
    return [*values.sum((0, 1)).tolist(), *values.square().sum((0, 1)).tolist()]


def decode(path: Path, sha256: str, size: int, window: Window, channels: int) -> Pixels | str:
    """The image (H, W, C), RGB or grey, or the reason why it cannot be read.

    Raises:
        UserError: the file's bytes are not those that were hashed, or the machine fails. Since the reason is kept under
            the digest of the bytes, it must come from the bytes alone.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise changed(path) from None
    except (OSError, MemoryError) as error:
        raise _machine_failed(path, error) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise changed(path)
    try:
        with Image.open(BytesIO(data)) as image:
            return pixels_of(image, window, channels, size)
    except UnidentifiedImageError:
        return "cannot identify the image file"
    except Exception as error:  # a broken file can make a decoder raise anything
        # Decoders give no errno; the operating system does.
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise _machine_failed(path, error) from None
        return str(error) or type(error).__name__


def pixels_of(image: Image.Image, window: Window, channels: int, size: int) -> Pixels:
    """An image as it is kept: (H, W, channels), RGB or grey, with a shorter side of at most `KEPT * size`.

    Raises:
        ValueError: as `_to_rgb`.
    """
    shrunk = _shrunk(_to_rgb(image, window, "L" if channels == 1 else "RGB"), KEPT * size)
    return np.array(shrunk).reshape(shrunk.height, shrunk.width, channels)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image with a shorter side of at most `side`, in the filter that blurs least: crops are filtered once more."""
    share = side / min(image.size)
    if share >= 1:
        return image
    width, height = (max(side, round(share * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _machine_failed(path: Path, error: OSError | MemoryError) -> UserError:
    why = "out of memory" if isinstance(error, MemoryError) else error.strerror
    return UserError(
        f"{shown(path)} cannot be read now ({why}), which says nothing of the image; mend that and try again"
    )


def _to_rgb(file: Image.Image, window: Window, mode: str) -> Image.Image:
    """The image upright and in 8 bits a channel.

    Raises:
        ValueError: its grey values or colours have more than 8 bits and `window` does not say what they mean.
    """
    # Of 16-bit colours Pillow hands on the upper 8 bits, which is right when white is 65535.
    if window != (0, 65535) and file.mode[0] != "I" and _is_deep(file):
        raise ValueError(
            "16 bits a colour, which are read as 0 to 65535; if that is right, say so with data.window = [0, 65535]"
        )
    image = ImageOps.exif_transpose(file)
    if image.mode[0] in "IF":  # 16- and 32-bit grey; Pillow would clip or wrap it
        image = Image.fromarray(_windowed(np.asarray(image, dtype=np.float64), window))
    if "transparency" in image.info:  # Pillow warns when a palette with transparency goes straight to RGB
        image = image.convert("RGBA")
    return image.convert(mode)


def _is_deep(file: Image.Image) -> bool:
    tiles = file.tile if isinstance(file, ImageFile.ImageFile) else ()
    return any(re.search(";16[BLN]", str(tile[3])) for tile in tiles)


def _windowed(grey: np.ndarray, window: Window) -> Pixels:
    """Grey values as bytes, with the window's ends as black and white and values beyond clipped."""
    low, high = grey.min(), grey.max()
    if not np.isfinite(low + high):
        raise ValueError("grey values that are not finite")
    if window is None:
        raise ValueError(
            f"grey values from {low:g} to {high:g} with no scale; say for all files which are black and white, as "
            "data.window = [0, 4095] for 12 bits or [0, 65535] for 16"
        )
    out = np.rint((grey.clip(*window) - window[0]) * (255 / (window[1] - window[0]))).astype(np.uint8)
    if low < high and out.min() == out.max():
        raise ValueError(f"grey values from {low:g} to {high:g}, which are all one in data.window = {list(window)}")
    return out
