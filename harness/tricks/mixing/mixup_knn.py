"""Mixup with near neighbours in pixel space."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Choice, Info, Rows, Run, Search, TrainingSet, Trick, at
from harness.tricks.images import TrainingPixels

FEWEST = 5
"""Neighbours that a small training set has in any case."""
BLOCK = 1024
"""Images whose distances to others are held in memory at once."""
PIECE_BYTES = 2**30
"""Memory for the others' pixels as float32: all of CIFAR-10, but 1,783 photographs of 224 pixels at a time."""


class Neighbours(NamedTuple):
    """Positions of the k nearest other images of each (n, k), nearest first; only `valid` (n,) of them count."""

    table: Tensor
    valid: Tensor


def nearest(rows: Rows, k: int, device: torch.device, label: Tensor | None = None) -> Neighbours:
    """The k nearest others of each image in pixels, of the same label (n,) if given; found on the device.

    Images are read and compared by pieces, so that memory does not grow with their number. An image that has fewer
    neighbours, being one of few of its class, counts those; without any it is its own.
    """
    n, tables, counts = len(rows), [], []
    parts = torch.split(torch.arange(n), max(1, min(n, PIECE_BYTES // (4 * rows.channels * rows.side**2))))
    kept = _points(rows, parts[0], device) if len(parts) == 1 else None
    for mine in torch.split(torch.arange(n), min(BLOCK, len(parts[0]))):
        own = _points(rows, mine, device) if kept is None else kept[mine]
        value, place = (
            torch.empty(len(mine), 0, device=device),
            torch.empty(len(mine), 0, dtype=torch.long, device=device),
        )
        for others in parts:
            distance = torch.cdist(own, _points(rows, others, device) if kept is None else kept)
            if label is not None:
                distance[label[mine, None] != label[others]] = math.inf
            distance[mine[:, None] == others] = math.inf
            value = torch.cat((value, distance), 1)
            place = torch.cat((place, others.to(device).expand_as(distance)), 1)
            value, rank = value.topk(min(k, value.shape[1]), largest=False)
            place = place.gather(1, rank)
        count = value.isfinite().sum(1)
        tables.append(torch.where(count[:, None] > 0, place, mine.to(device)[:, None]))
        counts.append(count.clamp(min=1))
    return Neighbours(torch.cat(tables), torch.cat(counts))


def _points(rows: Rows, positions: Tensor, device: torch.device) -> Tensor:
    """Images at these positions as rows of numbers (n, side * side * channels)."""
    return rows.take(positions).to(device).flatten(1).float()


class _State:
    """The training set and its neighbours; made again from the data when a run is resumed."""

    def __init__(self, run: Run, k: int, within: bool) -> None:
        train: TrainingSet = run.train
        self.pixels = TrainingPixels(run)
        self.index = train.index.to(run.device)
        self.neighbours = nearest(self.pixels.rows, k, run.device, train.label if within else None)
        # From positions in the data source, which batches carry, to those in the training split.
        self.position = torch.zeros(int(train.index.max()) + 1, dtype=torch.long, device=run.device)
        self.position[self.index] = torch.arange(len(self.index), device=run.device)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class MixupKnn(Trick):
    """Zhang et al. 2017, 1710.09412, section 3.8, arms AC + KNN and SC + KNN."""

    info: ClassVar = Info(
        name="mixup_knn",
        family="mixing",
        summary="mixup with one of the nearest training images",
        paper=(
            "Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 3.8; of one class: Chawla, Bowyer, Hall, "
            "Kegelmeyer 2002, JAIR 16 (SMOTE)"
        ),
        formula=(
            "x = w x_i + (1 - w) x_j, w ~ Beta(alpha, alpha) per batch, j uniform among the k nearest training "
            "images of x_i in pixels; y mixed alike, or of the closer image"
        ),
        expect=(
            "In the paper neighbours from all classes gain less than half of what random partners gain, and nothing "
            "at the larger weight decay; neighbours of the same class, or with the closer target, hardly anything: "
            "mixing pays between distant images."
        ),
        differs=(
            "k is a share of the training set, 0.004 for the paper's 200 of 50000, and at least 5. Neighbours "
            "are those of the images before augmentation. Partners are augmented as the recipe says, by draws of "
            "their own, but not by other tricks. Neighbours, and training sets that fit, are kept on the device; "
            "finding them takes time in n² and memory in n."
        ),
        cost=1.05,
    )
    alpha: Annotated[float, Field(gt=0), Search(0.05, 8.0, log=True)] = 1.0
    share: Annotated[float, Field(gt=0, le=1), Search(0.001, 0.1, log=True)] = 0.004
    scope: Annotated[Literal["all", "class"], Choice(("all", "class"))] = "all"
    target: Annotated[Literal["mixed", "closer"], Choice(("mixed", "closer"))] = "mixed"

    def prepare(self, run: Run) -> None:
        """Find the neighbours of every training image."""
        n = len(run.train.label)
        k = min(max(round(self.share * n), FEWEST), n - 1)
        run.state[self.name] = _State(run, k, self.scope == "class")

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw one weight and a neighbour per image, and mix."""
        state, generator = run.state[self.name], run.rng(self.name)
        weight = float(run.numpy(self.name).beta(self.alpha, self.alpha))
        here = state.position[batch.index]
        choice = torch.rand(len(here), generator=generator, device=here.device)
        rank = (choice * state.neighbours.valid[here]).long()
        x, y = state.pixels.draw(state.neighbours.table[here, rank], generator, batch.x.shape[-1])
        share = weight if self.target == "mixed" else float(weight >= 0.5)
        return replace(batch, x=torch.lerp(x, batch.x, weight), y=torch.lerp(y, batch.y, share))
