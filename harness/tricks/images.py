"""Pure functions on batches of images that several tricks share: boxes, windows, warps, partners, attacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.data.types import CROP_DRAWS, Croppable, Rows
from harness.experiment import Augment, Recipe
from harness.tricks.contract import DataInfo, NotApplicable, Run, to_pixels
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.modules import frozen_statistics


def box_mask(top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]) -> Tensor:
    """True inside boxes, given by integers of one shape (...): (..., H, W). They may leave the image."""
    rows = torch.arange(size[0], device=top.device) - top[..., None]
    columns = torch.arange(size[1], device=top.device) - left[..., None]
    in_rows = (rows >= 0) & (rows < height[..., None])
    in_columns = (columns >= 0) & (columns < width[..., None])
    return in_rows[..., :, None] & in_columns[..., None, :]


def cells(chosen: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels (N, H, W) lie in chosen cells (N, g, g) of a grid, whose cells differ by a pixel where they must."""
    grid = chosen.shape[-1]
    rows, columns = (torch.arange(side, device=chosen.device) * grid // side for side in size)
    return chosen.index_select(1, rows).index_select(2, columns)


def flip(x: Tensor, which: Tensor, axis: int) -> Tensor:
    """Mirror the images (N, C, H, W) where `which` (N,) is true along `axis`: -1 left-right, -2 up-down."""
    return torch.where(which.view(-1, 1, 1, 1), x.flip(axis), x)


def windows(padded: Tensor, down: Tensor, right: Tensor, side: int) -> Tensor:
    """A window (N, C, side, side) of each padded image, `down` rows and `right` columns (N,) from its corner."""
    along = torch.arange(side, device=padded.device)
    image = torch.arange(len(padded), device=padded.device).view(-1, 1, 1, 1)
    channel = torch.arange(padded.shape[1], device=padded.device).view(-1, 1, 1)
    return padded[image, channel, (along + down[:, None])[:, None, :, None], (along + right[:, None])[:, None, None, :]]


def affine(angle: Tensor, scale: Tensor, shear: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Matrices (N, 3, 3) for `warp` that scale, shear, turn and then move square images, about their centre.

    Angles are in radians, `angle` counter-clockwise, `shear` of columns; moves are fractions of the side.
    """
    cos, sin, slope = angle.cos(), angle.sin(), shear.tan()
    a, b = (cos - slope * sin) / scale, (-sin - slope * cos) / scale
    c, d = sin / scale, cos / scale
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    x, y = 2 * right, 2 * down  # warp's coordinates span two units
    rows = (a, b, -a * x - b * y, c, d, -c * x - d * y, zero, zero, one)
    return torch.stack(rows, 1).view(-1, 3, 3)


def places(x: Tensor) -> Tensor:
    """Where the pixels of images (N, C, H, W) lie, (H, W, 2): x and y, from edge to edge -1 to 1."""
    height, width = x.shape[-2:]
    place = x.new_empty(height, width, 2)
    place[..., 0] = (2 * torch.arange(width, device=x.device) + 1) / width - 1
    place[..., 1] = ((2 * torch.arange(height, device=x.device) + 1) / height - 1)[:, None]
    return place


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Resample images (N, C, H, W) bilinearly, black outside.

    `matrix` (N, 3, 3) takes homogeneous output coordinates to input ones; (x, y) goes from (-1, -1), the
    upper left corner of the image, to (1, 1).
    """
    n, _, height, width = x.shape
    base = x.new_ones(height, width, 3)
    base[..., :2] = places(x)
    grid = (base.view(1, -1, 3) @ matrix.to(x.dtype).mT).view(n, height, width, 3)
    return F.grid_sample(x, grid[..., :2] / grid[..., 2:], mode="bilinear", padding_mode="zeros", align_corners=False)


def augmented(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Images as the recipe augments them: shifted, mirrored, cropped and turned, each by draws of its own."""
    side = x.shape[-1]
    u = torch.rand(8, len(x), generator=generator, device=x.device)
    border = round(augment.shift * side)
    if border:
        down, right = (u[:2] * (2 * border + 1)).long()
        x = windows(F.pad(x, [border] * 4), down, right, side)
    if augment.flip:
        x = torch.where((u[2] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    if augment.rotation or augment.scale_min < 1:
        zero = torch.zeros_like(u[0])
        turn = affine((2 * u[3] - 1) * math.radians(augment.rotation), zero + 1, zero, zero, zero)
        area = augment.scale_min + (1 - augment.scale_min) * u[4]
        aspect = torch.exp((2 * u[5] - 1) * math.log(4 / 3)) if augment.scale_min < 1 else zero + 1
        width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        crop = torch.diag_embed(torch.stack((width, height, zero + 1), 1))
        crop[:, 1, 2] = (2 * u[6] - 1) * (1 - height)
        crop[:, 0, 2] = (2 * u[7] - 1) * (1 - width)
        x = warp(x, turn @ crop)
    return x


def views(rows: Rows, positions: Tensor, peak: int, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Images of rows at positions (N,), as pixels (N, C, side, side) on the positions' device, as the recipe augments.

    Random resized crops come from what the rows hold beyond their squares, as those of batches do.
    """
    augment = recipe.augment
    if augment.scale_min < 1 and isinstance(rows, Croppable):
        draws = torch.rand(CROP_DRAWS, len(positions), generator=generator, device=positions.device)
        images = rows.crops(positions, draws, augment.scale_min)
        augment = augment.model_copy(update={"scale_min": 1.0})
    else:
        images = rows.take(positions)
    return augmented(to_pixels(images.to(positions.device), peak, recipe.channels_last), augment, generator)


class TrainingPixels:
    """The training split, on the run's device where it fits, for tricks that need other images than the batch's."""

    def __init__(self, run: Run) -> None:
        train, classes = run.train, len(run.data.classes)
        self.rows, self.peak, self.recipe = train.rows.on(run.device), train.peak, run.recipe
        y = F.one_hot(train.label, classes).float() if train.y is None else train.y
        self.y = y.to(run.device)

    def draw(self, positions: Tensor, generator: torch.Generator, side: int) -> tuple[Tensor, Tensor]:
        """Pixels (N, C, side, side), augmented as the recipe says, and targets (N, K) at positions of the split."""
        x = views(self.rows, positions, self.peak, self.recipe, generator)
        if x.shape[-1] != side:  # another trick has resized the batch
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
        return x, self.y[positions]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is made again from the data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def resized(x: Tensor, side: int) -> Tensor:
    """Images (N, C, S, S) with `side` pixels a side, bilinear and smoothed where they shrink."""
    return F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def check_allowed(what: str, value: float, limit: float, force: bool) -> None:
    """Refuse to change images by more than their classes bear.

    Raises:
        NotApplicable: `value` exceeds the data set's limit and is not forced.
    """
    if value > limit and not force:
        raise NotApplicable(
            f"{what} = {value:g} may change the class of images that bear {limit:g}; force = true does it anyway"
        )


def check_colour(what: str, run: Run, force: bool) -> None:
    """Refuse to change the hues of images whose colours must stay.

    Raises:
        NotApplicable: the images have colours, their data set declares so, and `force` is false.
    """
    if run.data.channels == 3 and not run.data.invariances.color and not force:
        raise NotApplicable(
            f"{run.spec.data.name} declares invariances.color = False, so {what} may be of another class; "
            "force = true does it anyway"
        )


def random_view(x: Tensor, shift: float, noise: float, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `shift` of its side, black moving in, plus Gaussian pixel noise of std `noise`."""
    side = x.shape[-1]
    border = round(shift * side)
    place = torch.rand(2, len(x), generator=generator, device=x.device)
    grain = torch.randn(x.shape, generator=generator, device=x.device)
    down, right = (place * (2 * border + 1)).long()
    return windows(F.pad(x, [border] * 4), down, right, side) + noise * grain


def attack_radius(eps: float | None, data: DataInfo) -> float:
    """Largest change of a pixel by an attack: `eps`, or by default 8/255 for colour and 0.1 for grey images.

    A change by 8/255 hardly moves a classifier of grey digits.
    """
    return eps if eps is not None else 8 / 255 if data.channels == 3 else 0.1


def pixel_gradient(run: Run, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient of `loss`, a function of logits (N, K), with respect to the pixels x (N, C, H, W).

    Gradients of parameters and running statistics stay as they are.
    """
    x = x.detach().requires_grad_()
    with frozen_statistics(run.model):
        with run.autocast():
            logits = run.model(x)
        (gradient,) = torch.autograd.grad(loss(logits.float()), x)
    return gradient


def input_gradient(run: Run, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy with respect to its pixels, (N, C, H, W).

    The sum over the batch, unlike its mean, leaves small gradients some range in half precision.
    """
    return pixel_gradient(run, x, lambda logits: soft_cross_entropy(logits, y).sum())
