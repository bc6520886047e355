"""Batches for training and evaluation.

Images that are few enough live on the device as one uint8 tensor and are shifted and flipped there, many batches at a
time, by a single gather. More are read batch by batch, ahead of a GPU by a `DataLoader`, and augmented after the
transfer by the same code. Random resized crops of photographs are taken before that, from what lies on the disk.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad
from torch.utils.data import DataLoader, Dataset

from harness.cpus import available
from harness.data.rows import CROP_DRAWS, LEAST, Croppable, Rows, fits, memory_format, to_pixels
from harness.data.types import Batch, Part, TrainingSet
from harness.errors import UserError
from harness.experiment import Augment

CHUNK_PIXELS = 2**20
"""Pixels that are gathered at once: small nets get a whole epoch, and large chunks stay in the cache."""


class _Draws(NamedTuple):
    """Uniform draws in [0, 1), one (N,) for each parameter of the augmentation."""

    down: Tensor
    right: Tensor
    flip: Tensor
    angle: Tensor
    area: Tensor
    aspect: Tensor
    center_down: Tensor
    center_right: Tensor


class Loader:
    """The training split as shuffled, augmented batches; the last incomplete batch of an epoch is dropped.

    Batches are bit-identical for equal states of the two generators. All draws of the augmentation are made
    whether they are used or not, so switching one option on never changes another one's values.

    Args:
        train: the training split.
        augment: what to draw for each image.
        batch_size: images in a batch.
        device: where batches are wanted.
        classes: number of classes, the width of the one-hot targets.
        order: shuffles; on the CPU; one draw an epoch.
        augment_rng: draws the augmentation; on `device`.
        channels_last: memory format of the images.
        transforms: changes one uint8 image (C, H, W) on the host, after shift and flip.

    Raises:
        UserError: the training split is smaller than one batch.
    """

    def __init__(
        self,
        train: TrainingSet,
        augment: Augment,
        batch_size: int,
        device: torch.device | str,
        classes: int,
        order: torch.Generator,
        augment_rng: torch.Generator,
        channels_last: bool,
        transforms: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.rows = train.rows
        self.count, self.side = len(self.rows), self.rows.side
        _check_size(self.count, batch_size, "the training split has")
        self.augment, self.batch_size, self.peak = augment, batch_size, train.peak
        self.device = torch.device(device)
        self.order, self.augment_rng = order, augment_rng
        self.channels_last, self.transforms = channels_last, transforms
        self.shift = round(augment.shift * self.side)
        self.label, self.index = train.label.to(self.device), train.index.to(self.device)
        self.y = None if train.y is None else train.y.to(self.device, torch.float32)
        self.one_hot = torch.eye(classes, device=self.device)
        self.crops = augment.scale_min < 1 and isinstance(self.rows, Croppable)
        self.resident: Tensor | None = None
        if not self.crops and fits(self.rows, self.device):
            # Per-image transforms run on the host, so shift and flip do, too.
            self.resident = self._pad(self.rows[:].to("cpu" if transforms else self.device))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training split."""
        return self.count // self.batch_size

    def epoch(self, positions: Tensor | None = None) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            positions: (M,) positions in the training split to visit in this order, repeats allowed, on the
                CPU; None shuffles the whole split.

        Raises:
            UserError: fewer positions than one batch.
        """
        if positions is None:
            positions = torch.randperm(self.count, generator=self.order)
        _check_size(len(positions), self.batch_size, "the sampler chose")
        positions = positions[: len(positions) - len(positions) % self.batch_size]
        draws = _Draws(*torch.rand(8, len(positions), generator=self.augment_rng, device=self.device))
        chunk = self.batch_size
        if self.resident is not None:
            chunk *= max(1, CHUNK_PIXELS // (self.batch_size * self.side**2))
        crops = None
        if isinstance(self.rows, Croppable):  # drawn whether taken or not, as all draws
            crops = torch.rand(CROP_DRAWS, len(positions), generator=self.augment_rng, device=self.device)
        read = _Read(self.rows, positions, chunk, crops if self.crops else None, self.augment.scale_min)
        streamed = None if self.resident is not None else _stream(read, self.device)
        positions = positions.to(self.device)
        for start in range(0, len(positions), chunk):
            part = slice(start, start + chunk)
            chosen, drawn = positions[part], _Draws(*(draw[part] for draw in draws))
            if self.resident is not None:
                x = self._augment(self.resident, chosen, drawn)
            elif streamed is not None:
                images = next(streamed).to("cpu" if self.transforms else self.device, non_blocking=True)
                x = self._augment(self._pad(images), torch.arange(len(images), device=images.device), drawn)
            label = self.label[chosen]
            y = self.one_hot[label] if self.y is None else self.y[chosen]
            parts = (torch.split(t, self.batch_size) for t in (x, y, label, self.index[chosen]))
            yield from map(Batch, *parts)

    @property
    def _scale_min(self) -> float:
        """Smallest area of the crops that are still to be taken."""
        return 1.0 if self.crops else self.augment.scale_min

    def _pad(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) with a black border as wide as the largest shift."""
        return pad(images, (0, 0, *[self.shift] * 4)) if self.shift else images.contiguous()

    def _augment(self, padded: Tensor, rows: Tensor, draws: _Draws) -> Tensor:
        """The chosen rows of padded uint8 images (N, H + 2s, W + 2s, C) as augmented pixels (n, C, H, W)."""
        moved = self.shift or self.augment.flip
        rows = rows.to(padded.device)
        images = self._shift_flip(padded, rows, draws) if moved else padded[rows]
        if self.transforms:
            changed = [self.transforms(image) for image in images.permute(0, 3, 1, 2)]
            images = torch.stack(changed).permute(0, 2, 3, 1)
        x = to_pixels(images.to(self.device), self.peak, self.channels_last)
        if self.augment.rotation or self._scale_min < 1:
            x = self._warp(x, draws)
        return x

    def _shift_flip(self, padded: Tensor, rows: Tensor, draws: _Draws) -> Tensor:
        """A window (n, H, W, C) of each chosen row, at its own integer offset, mirrored for half of them."""
        device, width = padded.device, padded.shape[2]
        side, offsets = torch.arange(self.side, device=device), 2 * self.shift + 1
        down = side + (draws.down * offsets).long().to(device)[:, None]
        across = side.expand(len(rows), -1)
        if self.augment.flip:
            across = torch.where((draws.flip < 0.5).to(device)[:, None], self.side - 1 - side, side)
        across = across + (draws.right * offsets).long().to(device)[:, None]
        # Row numbers of a flat table (pixels, C): several times faster on a CPU than three index tensors.
        lines = rows[:, None] * width + down
        pixels = (lines[:, :, None] * width + across[:, None, :]).flatten()
        return padded.flatten(0, 2).index_select(0, pixels).view(-1, self.side, self.side, padded.shape[3])

    def _warp(self, x: Tensor, draws: _Draws) -> Tensor:
        """Random resized crop and rotation about the centre in one bilinear sampling, black outside."""
        area = self._scale_min + (1 - self._scale_min) * draws.area
        aspect = torch.zeros_like(area)
        if self._scale_min < 1:
            aspect = (2 * draws.aspect - 1) * math.log(4 / 3)
        # A window of extreme aspect that is larger than the image is cut to its side; those of photographs are redrawn.
        width = (area * aspect.exp()).sqrt().clamp(max=1)
        height = (area / aspect.exp()).sqrt().clamp(max=1)
        right = (2 * draws.center_right - 1) * (1 - width)
        down = (2 * draws.center_down - 1) * (1 - height)
        angle = (2 * draws.angle - 1) * math.radians(self.augment.rotation)
        cos, sin = angle.cos(), angle.sin()
        # Output coordinates are scaled and moved into the window, then turned about the image's centre.
        first = [cos * width, -sin * height, cos * right - sin * down]
        second = [sin * width, cos * height, sin * right + cos * down]
        theta = torch.stack(first + second, dim=1).view(-1, 2, 3)
        grid = affine_grid(theta, list(x.shape), align_corners=False)
        x = grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return x.contiguous(memory_format=memory_format(self.channels_last))


def evaluation_batches(
    held: Part, device: torch.device | str, batch: int, channels_last: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A split in its own order, without augmentation: pixels (n, C, H, W) in [0, 1], label (n,), index (n,).

    The last batch may be smaller, but its pixels are not fewer than `LEAST`: they then begin with images of the batch
    before, without label and index.
    """
    rows = held.rows
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        seen = slice(max(0, min(start, len(rows) - LEAST)), part.stop)
        x = to_pixels(rows[seen].to(device), held.peak, channels_last)
        yield x, held.label[part].to(device), held.index[part].to(device)


def _check_size(count: int, batch_size: int, who: str) -> None:
    if count < batch_size:
        raise UserError(
            f"recipe.batch_size = {batch_size}: {who} {count} images, fewer than one batch; "
            f"use a batch_size of at most {count}"
        )


class _Read(Dataset[Tensor]):
    """The images of each chunk of an epoch: the squares at the positions, or crops from the draws."""

    def __init__(self, rows: Rows, positions: Tensor, chunk: int, crops: Tensor | None, scale_min: float) -> None:
        self.rows, self.crops, self.scale_min = rows, crops, scale_min
        self.positions, self.chunk = positions, chunk

    def __len__(self) -> int:
        return -(-len(self.positions) // self.chunk)

    def __getitem__(self, number: int) -> Tensor:
        part = slice(number * self.chunk, (number + 1) * self.chunk)
        if self.crops is not None and isinstance(self.rows, Croppable):
            return self.rows.crops(self.positions[part], self.crops[:, part], self.scale_min)
        return self.rows.take(self.positions[part])


def _stream(read: _Read, device: torch.device) -> Iterator[Tensor]:
    """The chunks in order, read ahead of a GPU by worker processes."""
    # A daemonic process, such as a worker of a pool, may not start processes; on CPUs, runs share all cores already.
    alone = device.type != "cuda" or multiprocessing.current_process().daemon
    return iter(
        DataLoader(
            read,
            batch_size=None,
            num_workers=0 if alone else min(4, available().count),
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # its seed for the workers would be drawn from the global generator
        )
    )
