"""Mixtures of the images of a batch, with the targets that follow, which several tricks share."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from harness.tricks.contract import Batch
from harness.tricks.functional import mix


def mixup(batch: Batch, partner: Tensor, weight: Tensor | float) -> Batch:
    """Mix each example with `partner` (a permutation, (N,)): x = w x_i + (1 - w) x_j, and y alike.

    `weight` is a scalar or one value per example, (N,), in [0, 1].
    """
    return replace(batch, x=mix(batch.x, partner, weight), y=mix(batch.y, partner, weight))


class Box(NamedTuple):
    """Rows top to bottom and columns left to right, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


def box(size: tuple[int, int], keep: float, row: int, column: int) -> Box:
    """The box of area about 1 - `keep` of the image, of its shape, centred at a pixel and clipped."""
    half_height, half_width = (int(side * (1 - keep) ** 0.5) // 2 for side in size)
    return Box(
        max(row - half_height, 0),
        min(row + half_height, size[0]),
        max(column - half_width, 0),
        min(column + half_width, size[1]),
    )


def cutmix(batch: Batch, partner: Tensor, where: Box) -> Batch:
    """Paste the box of `partner` (a permutation, (N,)) into each image; y mixes by the share of pixels."""
    top, bottom, left, right = where
    x = batch.x.clone()
    x[..., top:bottom, left:right] = batch.x[partner, :, top:bottom, left:right]
    keep = 1 - (bottom - top) * (right - left) / (x.shape[-2] * x.shape[-1])
    return replace(batch, x=x, y=mix(batch.y, partner, keep))


def masked(batch: Batch, partner: Tensor, mask: Tensor) -> Batch:
    """`partner`'s pixels (a permutation, (N,)) where `mask` (N or 1, H, W) is true; y mixes by the share of pixels."""
    x = torch.where(mask[:, None], batch.x[partner], batch.x)
    return replace(batch, x=x, y=mix(batch.y, partner, 1 - mask.to(batch.y.dtype).mean((1, 2))))
