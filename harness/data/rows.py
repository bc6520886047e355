"""Images that a split points into: `Rows`, over an array or over photographs of all sizes in one file.

Nothing is copied for a run. A split is positions into what all runs of a machine share: an array of this process, or a
file whose pages lie in the cache of the operating system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

STATISTICS_IMAGES = 10_000
"""Images from which mean and std are computed: enough for three digits, at any size of the data set."""

MIN_STD = 1e-3
"""Floor of a channel's standard deviation, so that a constant channel can be normalised."""

TRIES = 10
"""Draws of a random resized crop that may leave the image before the centre is taken, as in torchvision."""

CROP_DRAWS = 2 * TRIES + 2
"""Uniform draws that a random resized crop takes: area and aspect of each try, and the place."""

DEVICE_SHARE = 0.25
"""Share of the free memory of a GPU that a training split may take."""

HOST_BYTES = 2**28
"""The largest training split that a run holds in the host's memory: all of CIFAR, but not 2,000 photographs of 224
pixels."""

EVALUATED_PIXELS = 1000 * 32**2
"""Pixels that a CPU predicts at once: a thousand images of 32 pixels."""

GPU_FACTOR = 16
"""So many times more on a GPU, whose kernels are starved by less: 320 images of 224 pixels."""

LEAST = 16
"""Images that are predicted at once at least, where there are so many: CPUs multiply fewer rows by other kernels, whose
last bits differ."""

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std of each channel."""


@runtime_checkable
class Rows(Protocol):
    """Square uint8 images that need not lie in memory, as they are evaluated."""

    @property
    def side(self) -> int:
        """Height and width in pixels."""

    @property
    def channels(self) -> int:
        """Channels of an image."""

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Tensor:
        """The images at these positions (n,), in memory: (n, side, side, channels)."""

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """The images of a slice, of positions (n,) or where a mask (N,) holds, in memory."""

    def select(self, index: Tensor) -> Rows:
        """The rows at these positions (n,); nothing is copied."""

    def on(self, device: torch.device) -> Rows:
        """The rows with their images on the device, where they can be and there is room; else as they are."""

    def moments(self, peak: int) -> Moments:
        """Mean and std of each channel over the first 10,000 images, where `peak` is 1; std is at least 0.001."""


@runtime_checkable
class Croppable(Rows, Protocol):
    """Rows that hold more than their squares show, so that training crops are taken from there, and antialiased."""

    def crops(self, index: Tensor, draws: Tensor, scale_min: float) -> Tensor:
        """Random resized crops of the images at positions (n,): uint8 (n, side, side, channels).

        Args:
            index: (n,).
            draws: (`CROP_DRAWS`, n), uniform in [0, 1).
            scale_min: the smallest share of an image's area.
        """


class _Chosen:
    """What all rows do alike: positions into something shared."""

    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        return self._at(self.index[chosen])

    def take(self, index: Tensor) -> Tensor:
        """The images at these positions."""
        return self._at(self._shared(index))

    def _shared(self, index: Tensor) -> Tensor:
        """Positions in what is shared, of positions among these rows."""
        return self.index[index.to(self.index.device)]

    def _at(self, at: Tensor) -> Tensor:
        raise NotImplementedError


class ArrayRows(_Chosen):
    """Positions into an array of squares.

    Args:
        images: uint8 (N, side, side, channels), a tensor on any device or an array that nobody writes.
        index: (n,) positions in it; all by default.
    """

    def __init__(self, images: Tensor | NDArray[np.uint8], index: Tensor | None = None) -> None:
        self.images = images
        device = images.device if isinstance(images, Tensor) else None
        self.index = torch.arange(len(images), device=device) if index is None else index.to(device)
        self.side, self.channels = int(images.shape[2]), int(images.shape[3])

    def _at(self, at: Tensor) -> Tensor:
        return self.images[at] if isinstance(self.images, Tensor) else torch.from_numpy(self.images[at.numpy()])

    def select(self, index: Tensor) -> ArrayRows:
        """The rows at these positions."""
        return ArrayRows(self.images, self._shared(index))

    def on(self, device: torch.device) -> ArrayRows:
        """The rows in a tensor on the device, where there is room for it."""
        return ArrayRows(self[:].to(device)) if fits(self, device) else self

    def moments(self, peak: int) -> Moments:
        """Mean and std of each channel."""
        value = torch.arange(256, dtype=torch.float64) / peak
        mean, std = [], []
        for channel in self[:STATISTICS_IMAGES].unbind(-1):
            # Counting the 256 levels is exact and needs no floating-point copy of the images.
            share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
            center = (share * value).sum()
            mean.append(float(center))
            std.append(max(float((share * (value - center) ** 2).sum().sqrt()), MIN_STD))
        return tuple(mean), tuple(std)


class PhotoRows(_Chosen):
    """Positions into photographs of all sizes, one after the other in a file.

    They are read at their places and not mapped: a mapped page counts against every process that has touched it, and a
    read one lies in the cache of the system alone. What is evaluated is the central square, at most resized.

    Args:
        path: the file.
        sizes: (N, 2), height and width of each image.
        sums: (N, 2, C), over the pixels of each image's square the sums of the values and of their squares.
        side: of the squares.
        start: where the first image begins in the file, in bytes.
        index: (n,) positions; all by default.
    """

    def __init__(
        self, path: Path, sizes: Tensor, sums: Tensor, side: int, start: int, index: Tensor | None = None
    ) -> None:
        self.path, self.sizes, self.sums, self.side, self.start = path, sizes, sums, side, start
        self.channels = int(sums.shape[2])
        self.index = torch.arange(len(sizes)) if index is None else index
        bytes_each = sizes.prod(1) * self.channels
        self.offsets = start + bytes_each.cumsum(0) - bytes_each

    def _at(self, at: Tensor) -> Tensor:
        return self._resized(at, squares(self.sizes[at]))

    def crops(self, index: Tensor, draws: Tensor, scale_min: float) -> Tensor:
        """Random resized crops."""
        at = self._shared(index)
        return self._resized(at, crop_boxes(self.sizes[at], draws.cpu(), scale_min))

    def select(self, index: Tensor) -> PhotoRows:
        """The rows at these positions."""
        return PhotoRows(self.path, self.sizes, self.sums, self.side, self.start, self._shared(index))

    def on(self, device: torch.device) -> PhotoRows:
        """The same rows: a device holds no more than their squares."""
        return self

    def moments(self, peak: int) -> Moments:
        """Mean and std of each channel, from the sums."""
        at = self.index[:STATISTICS_IMAGES]
        first, second = (self.sums[at].sum(0).double() / (len(at) * self.side**2)).unbind(0)
        std = (second - first**2).clamp(min=0).sqrt() / peak
        return tuple((first / peak).tolist()), tuple(std.clamp(min=MIN_STD).tolist())

    def _resized(self, at: Tensor, boxes: Tensor) -> Tensor:
        """The boxes (n, 4) of the images at these positions of the file, each resized to a square."""
        out = torch.empty(len(at), self.side, self.side, self.channels, dtype=torch.uint8)
        sizes, offsets = self.sizes[at].tolist(), self.offsets[at].tolist()
        for i, (size, offset, box) in enumerate(zip(sizes, offsets, boxes.tolist(), strict=True)):
            shape = (*size, self.channels)
            pixels = np.fromfile(self.path, np.uint8, math.prod(shape), offset=offset)
            resize(torch.from_numpy(pixels.reshape(shape)), box, out[i])
        return out


def rows_of(images: Rows | Tensor | NDArray[np.uint8]) -> Rows:
    """Rows over an array (N, H, W, C); rows stay as they are."""
    return images if isinstance(images, Rows) else ArrayRows(images)


def fits(rows: Rows, device: torch.device) -> bool:
    """Whether a run may hold the squares of these rows on the device."""
    room: float = HOST_BYTES
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        room = DEVICE_SHARE * free
    return len(rows) * rows.side**2 * rows.channels < room


def at_once(side: int, most: int, device: torch.device) -> int:
    """How many images of that side are predicted at once: `most`, or as many as the memory should bear.

    It depends on nothing that varies between runs, since the last bits of a prediction may depend on it. Where they are
    fewer, they are a multiple of 16, of which CPUs multiply the rows alike.
    """
    pixels = EVALUATED_PIXELS * (GPU_FACTOR if device.type == "cuda" else 1)
    return most if most * side**2 <= pixels else max(LEAST, pixels // side**2 // LEAST * LEAST)


def resize(image: Tensor, box: Sequence[int], out: Tensor) -> None:
    """Write the box (top, left, height, width) of an image (H, W, C) into the square `out`, bilinear, antialiased."""
    top, left, height, width = box
    part = image[top : top + height, left : left + width]
    if part.shape != out.shape:
        part = interpolate(part.permute(2, 0, 1)[None], tuple(out.shape[:2]), mode="bilinear", antialias=True)[0]
        part = part.permute(1, 2, 0)
    out.copy_(part)


def squares(sizes: Tensor) -> Tensor:
    """The largest central square of images of these heights and widths (n, 2): (n, 4), top, left, height, width."""
    short = sizes.amin(1, keepdim=True)
    return torch.cat(((sizes - short) // 2, short, short), 1)


def crop_boxes(sizes: Tensor, draws: Tensor, scale_min: float) -> Tensor:
    """Boxes of random resized crops (Szegedy et al. 2014, arXiv:1409.4842, section 6), as torchvision draws them.

    The share of the area is uniform in [scale_min, 1], the aspect log-uniform in [3/4, 4/3]. A box that leaves the
    image is drawn anew, ten times at most; then it is the centre, of the nearest aspect in that range.

    Args:
        sizes: (n, 2), height and width of each image.
        draws: (`CROP_DRAWS`, n), uniform in [0, 1): area of each try, aspect of each try, place.
        scale_min: in (0, 1].

    Returns:
        (n, 4): top, left, height, width in pixels.
    """
    height, width = sizes.double().unbind(1)
    area, aspect, place = draws[:TRIES].double(), draws[TRIES:-2].double(), draws[-2:].double()
    area = (scale_min + (1 - scale_min) * area) * height * width
    aspect = ((2 * aspect - 1) * math.log(4 / 3)).exp()
    wide, high = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (wide >= 1) & (high >= 1) & (wide <= width) & (high <= height)
    first = fits.double().argmax(0, keepdim=True)
    found = fits.any(0)
    wide = torch.where(found, wide.gather(0, first)[0], torch.minimum(width, (height * 4 / 3).round()))
    high = torch.where(found, high.gather(0, first)[0], torch.minimum(height, (width * 4 / 3).round()))
    down, right = height - high, width - wide
    top = torch.where(found, (place[0] * (down + 1)).floor(), (down / 2).floor())
    left = torch.where(found, (place[1] * (right + 1)).floor(), (right / 2).floor())
    return torch.stack((top, left, high, wide), 1).long()


def to_pixels(images: Tensor, peak: int, channels_last: bool) -> Tensor:
    """Float pixels (N, C, H, W) in [0, 1] of uint8 images (N, H, W, C) in which `peak` is white."""
    x = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory_format(channels_last))
    return x.div_(peak)


def memory_format(channels_last: bool) -> torch.memory_format:
    """How images lie in memory."""
    return torch.channels_last if channels_last else torch.contiguous_format
