"""A data set in memory, before it is split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.tricks.contract import Invariances

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

DIGITS = Invariances(flip=False, shift=0.125, rotation=10.0, color=False)
PHOTOS = Invariances(flip=True, shift=0.125, rotation=15.0, color=True)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is split.

    train_images, test_images: (N, H, W, C), where `peak` is white; they may be read-only memory maps.
    train_labels, test_labels: (N,), positions in `classes`. The test arrays are None when the data set has
    no official test split. digest: 16 hex digits that identify the data (`harness.data.content`). unreadable: the
    files that were left out, each with the reason. notes: lines about what was passed over.
    """

    train_images: Pixels
    train_labels: Labels
    test_images: Pixels | None
    test_labels: Labels | None
    classes: tuple[str, ...]
    peak: int
    invariances: Invariances
    digest: str
    unreadable: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
