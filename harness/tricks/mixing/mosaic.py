"""Mosaic of four crops with targets mixed by area: RICAP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, Run, Search, Trick, at


class Tile(NamedTuple):
    """A rectangle of the mosaic, and the upper left corner of the crop that fills it."""

    top: int
    left: int
    height: int
    width: int
    from_top: int
    from_left: int


def tiles(size: tuple[int, int], row: int, column: int, places: Sequence[tuple[float, float]]) -> list[Tile]:
    """Four tiles that meet at a row and a column; crops lie at `places`, as shares of the room they have."""
    rows, columns = ((0, row), (row, size[0] - row)), ((0, column), (column, size[1] - column))
    corners = [(*r, *c) for r in rows for c in columns]
    return [
        Tile(top, left, height, width, int(a * (size[0] - height + 1)), int(b * (size[1] - width + 1)))
        for (top, height, left, width), (a, b) in zip(corners, places, strict=True)
    ]


def mosaic(batch: Batch, partners: Sequence[Tensor], where: Sequence[Tile]) -> Batch:
    """Fill tile k of each image from image partners[k][i]; y mixes by area."""
    x, y = torch.empty_like(batch.x), torch.zeros_like(batch.y)
    for partner, tile in zip(partners, where, strict=True):
        rows = slice(tile.from_top, tile.from_top + tile.height)
        columns = slice(tile.from_left, tile.from_left + tile.width)
        part = batch.x[..., rows, columns][partner]
        x[..., tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = part
        y += batch.y[partner] * (tile.height * tile.width / (x.shape[-2] * x.shape[-1]))
    return replace(batch, x=x, y=y)


class Mosaic(Trick):
    """Takahashi et al. 2018, 1811.09030 (RICAP); for detection Bochkovskiy et al. 2020, 2004.10934."""

    info: ClassVar = Info(
        name="mosaic",
        family="mixing",
        summary="patch four random crops together, mix targets by area",
        paper=(
            "Takahashi, Matsubara, Uehara 2018, arXiv:1811.09030; as mosaic of boxes Bochkovskiy, Wang, Liao 2020, "
            "arXiv:2004.10934"
        ),
        formula=(
            "the centre is (round(u H), round(v W)), u, v ~ Beta(beta, beta); each of four tiles is a crop of its size "
            "at a random place of another image; y = sum of area share times y of the image"
        ),
        expect=(
            "Helps large nets in long training on natural images, as CutMix does. Harms where a part does not tell the "
            "class: crops of digits lose it, and tiles of tiny images have few pixels."
        ),
        differs="the first tile comes from the image itself rather than from a fourth permutation",
    )
    beta: Annotated[float, Field(gt=0), Search(0.1, 4.0, log=True)] = 0.3

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one centre, the places of the crops and the partners, and tile."""
        host, n, device = run.numpy(self.name), len(batch.x), batch.x.device
        size = (batch.x.shape[-2], batch.x.shape[-1])
        row, column = (round(side * float(host.beta(self.beta, self.beta))) for side in size)
        where = tiles(size, row, column, [(float(a), float(b)) for a, b in host.random((4, 2))])
        others = [torch.randperm(n, generator=run.rng(self.name), device=device) for _ in range(3)]
        return mosaic(batch, [torch.arange(n, device=device), *others], where)
