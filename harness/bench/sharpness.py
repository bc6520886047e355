"""How sharp training images are beside torchvision's crops of the originals: `python -m harness.bench.sharpness`.

It takes a folder that holds `train` and `val` with a folder for each class, by default scikit-learn's two sample
photographs, and the sides of the images.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from harness.data.batches import Loader
from harness.data.rows import ArrayRows, PhotoRows, Rows, crop_boxes
from harness.data.sources import load_source
from harness.data.types import TrainingSet
from harness.experiment import Augment, Data

UNSHRUNK = 1024
"""A side at which photographs of up to 2048 pixels are kept as they are."""

SCALES, CROPS = (0.08, 0.35), 1000
"""Smallest areas of crops that recipes have, and crops of each way at least."""


def sharpness(images: Tensor) -> Tensor:
    """Mean length of the brightness's gradient of each image: pixels (N, C, H, W) to (N,)."""
    grey = images.float().mean(1)
    down, right = grey[:, 1:, :-1] - grey[:, :-1, :-1], grey[:, :-1, 1:] - grey[:, :-1, :-1]
    return (down**2 + right**2).sqrt().mean((1, 2))


def ratio(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Mean over mean of two samples of equal size (n,), paired or not, and half its 95 % interval (jackknife)."""
    n = len(ours)
    left = (ours.sum() - ours) / (theirs.sum() - theirs)
    error = ((n - 1) / n * (left - left.mean()).square().sum()).sqrt()
    return float(ours.sum() / theirs.sum()), 1.96 * float(error)


def torchvision(originals: PhotoRows, at: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Boxes (n, 4) of originals as torchvision crops and resizes them, antialiased: (n, C, side, side) in [0, 1]."""
    out = []
    for i, box in zip(at.tolist(), boxes.tolist(), strict=True):
        shape = (*originals.sizes[i].tolist(), originals.channels)
        pixels = np.fromfile(originals.path, np.uint8, math.prod(shape), offset=int(originals.offsets[i]))
        image = torch.from_numpy(pixels.reshape(shape)).permute(2, 0, 1)
        out.append(tv.resized_crop(image, *box, [side, side], antialias=True))
    return torch.stack(out) / 255


def trained(rows: Rows, at: Tensor, scale_min: float) -> Tensor:
    """What the loader makes of the rows at positions (n,)."""
    everything = TrainingSet(rows, torch.zeros(len(rows), dtype=torch.long), torch.arange(len(rows)))
    order, draws = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    loader = Loader(everything, Augment(scale_min=scale_min), len(rows), "cpu", 2, order, draws, channels_last=False)
    return torch.cat([batch.x for batch in loader.epoch(at)])


def compared(root: Path, folder: str, side: int, scale_min: float) -> Iterator[tuple[str, int, float, float]]:
    """The ways to a training image: words, crops, and sharpness over torchvision's with half its interval."""
    kept, whole = (
        load_source(Data(name="folder", root=folder, image_size=size, val_size=1), root).train_images
        for size in (side, UNSHRUNK)
    )
    if not isinstance(kept, PhotoRows) or not isinstance(whole, PhotoRows):
        raise TypeError(f"{folder} holds no photographs")
    at = torch.arange(len(kept)).repeat(-(-CROPS // len(kept)))
    draws = torch.rand(22, len(at), generator=torch.Generator().manual_seed(2))
    theirs = sharpness(torchvision(whole, at, crop_boxes(whole.sizes[at], draws, scale_min), side))
    yield "squares, then crops", len(at), *ratio(sharpness(trained(ArrayRows(kept[:]), at, scale_min)), theirs)
    yield "crops of what is kept", len(at), *ratio(sharpness(trained(kept, at, scale_min)), theirs)


def samples(root: Path) -> None:
    """A folder `photos` of scikit-learn's sample photographs."""
    from sklearn.datasets import load_sample_images

    for number, photo in enumerate(load_sample_images().images):
        for split in ("train", "val"):
            for name, part in (("wide", photo), ("upright", photo[:, :300])):
                path = root / "photos" / split / f"class{number}" / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(part).save(path)


def main(folder: Path | None, sides: list[int]) -> None:
    """Print a row for each side, smallest area and way."""
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            samples(Path(made))
        root, name = (Path(made), "photos") if folder is None else (folder.parent, folder.name)
        for side in sides:
            for scale_min in SCALES:
                for way, n, value, half in compared(root, name, side, scale_min):
                    told = f"| {side} | {scale_min:g} | {way} | {value:.3f} ± {half:.3f} | {n} |"
                    print(told)  # noqa: T201 (what the command is for)


if __name__ == "__main__":
    words = sys.argv[1:]
    main(
        next((Path(w).resolve() for w in words if not w.isdecimal()), None),
        [int(w) for w in words if w.isdecimal()] or [128],
    )
