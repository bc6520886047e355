"""What data are on their way: a source before it is split, the training split, a batch, and what tricks may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.data.rows import CROP_DRAWS as CROP_DRAWS
from harness.data.rows import Croppable as Croppable
from harness.data.rows import Rows as Rows
from harness.data.rows import at_once as at_once
from harness.data.rows import rows_of
from harness.data.rows import to_pixels as to_pixels

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Invariances(NamedTuple):
    """What may be done to an image of a data set without changing its class."""

    flip: bool
    """Horizontal mirror."""
    shift: float
    """Largest translation, as a fraction of the side."""
    rotation: float
    """Largest rotation in degrees."""
    color: bool
    """Hue and saturation changes; False for grey images."""


DIGITS = Invariances(flip=False, shift=0.125, rotation=10.0, color=False)
PHOTOS = Invariances(flip=True, shift=0.125, rotation=15.0, color=True)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is split.

    train_images, val_images, test_images: (N, H, W, C) or rows of such images, where `peak` is white.
    train_labels, val_labels, test_labels: (N,), positions in `classes`. The arrays of val or test are None when the
    data set has no such split, whose images are then drawn from train. digest: 16 hex digits that identify the data
    (`harness.data.content`). unreadable: the files that were left out, each with the reason. notes: lines about what
    was passed over.
    groups: (N,), of each training image the number of its group, whose images stay in one split; None without groups.
    said_labels: (N,), other labels of the training images to learn from (`data.labels`); None without.
    """

    train_images: Pixels | Rows
    train_labels: Labels
    test_images: Pixels | Rows | None
    test_labels: Labels | None
    classes: tuple[str, ...]
    peak: int
    invariances: Invariances
    digest: str
    unreadable: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    groups: Labels | None = None
    val_images: Pixels | Rows | None = None
    val_labels: Labels | None = None
    said_labels: Labels | None = None


class DataInfo(NamedTuple):
    """What tricks may know of a data set. `mean` and `std` are per channel, of the training split, in [0, 1]."""

    classes: tuple[str, ...]
    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    invariances: Invariances
    train_counts: tuple[int, ...]


class Part(Protocol):
    """Images with their labels: a split, or a part of one."""

    @property
    def rows(self) -> Rows:
        """The images."""

    @property
    def label(self) -> Tensor:
        """Labels (N,)."""

    @property
    def index(self) -> Tensor:
        """Positions (N,) in the array of the source that the images come from."""

    @property
    def peak(self) -> int:
        """The value of white."""


@dataclass(frozen=True)
class TrainingSet:
    """The training split as tricks may rewrite it.

    images: uint8 (N, H, W, C), where `peak` is white: a tensor, or rows of which `images[chosen]` gives some as a
    tensor, which is how both are read. label, index: (N,). y: (N, K) probabilities, or None for the one-hot rows of
    `label`.
    """

    images: Tensor | Rows
    label: Tensor
    index: Tensor
    peak: int = 255
    y: Tensor | None = None

    @property
    def rows(self) -> Rows:
        """The images as rows."""
        return rows_of(self.images)


@dataclass(frozen=True, slots=True)
class Batch:
    """Images and targets that travel together.

    x: pixels (N, C, H, W), float in [0, 1], before normalisation (which is the model's first layer).
    y: targets (N, K), rows are probabilities. label (N,) and index (N,), the integer labels and the
    positions in the source data set, are never changed by a trick.
    """

    x: Tensor
    y: Tensor
    label: Tensor
    index: Tensor
