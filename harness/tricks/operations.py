"""Image operations on batches, each image (N, C, H, W) in [0, 1] by an amount (N,) of its own, black outside.

They do to a batch what Pillow, and torchvision and timm after it, do to one image with the same amounts, in floating
point and with bilinear resampling; `equalize` and `posterize` round to 256 levels first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.functional import table
from harness.tricks.images import warp

LUMA = (0.299, 0.587, 0.114)

NEVER = 256 / 255
"""A threshold that no pixel reaches."""


def gray(x: Tensor) -> Tensor:
    """Brightness (N, 1, H, W): ITU-R BT.601 luma of RGB images, the mean of others."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * table(LUMA, x).view(1, 3, 1, 1)).sum(1, keepdim=True)


def wide(amount: Tensor) -> Tensor:
    """Amounts (N,) as (N, 1, 1, 1), beside images."""
    return amount.view(-1, 1, 1, 1)


def stretch(x: Tensor, base: Tensor | float, factor: Tensor) -> Tensor:
    """Move pixels away from `base` by each image's factor (N,), within [0, 1]."""
    return (base + wide(factor) * (x - base)).clamp(0, 1)


def smoother(sigma: Tensor, side: int) -> Tensor:
    """Matrices (N, side, side) whose rows are Gaussians of `sigma` (N,) pixels around the diagonal, summing to one."""
    place = torch.arange(side, device=sigma.device, dtype=sigma.dtype)
    distance = (place[:, None] - place) / sigma.clamp(min=1e-3)[:, None, None]
    return torch.softmax(-0.5 * distance.square(), -1)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image (N, C, H, W) by its own sigma (N,) in pixels; zero leaves it as it is."""
    rows, columns = (smoother(sigma, side)[:, None] for side in x.shape[-2:])
    return rows @ x @ columns.mT


def _linear(x: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Resample at (xx u + xy v + right, yx u + yy v + down), u and v from -1 to 1."""
    zero = torch.zeros_like(xx)
    return warp(x, torch.stack((xx, xy, right, yx, yy, down, zero, zero, zero + 1), 1).view(-1, 3, 3))


def shear_x(x: Tensor, slope: Tensor) -> Tensor:
    """Row v pixels below the upper edge shows what is `slope` v pixels to the right of it."""
    one, zero = torch.ones_like(slope), torch.zeros_like(slope)
    return _linear(x, one, slope * (x.shape[-2] / x.shape[-1]), zero, one, slope * (x.shape[-2] / x.shape[-1]), zero)


def shear_y(x: Tensor, slope: Tensor) -> Tensor:
    """Column u pixels from the left edge shows what is `slope` u pixels below it."""
    one, zero = torch.ones_like(slope), torch.zeros_like(slope)
    return _linear(x, one, zero, slope * (x.shape[-1] / x.shape[-2]), one, zero, slope * (x.shape[-1] / x.shape[-2]))


def translate_x(x: Tensor, share: Tensor) -> Tensor:
    """Move to the right by a share of the width."""
    one, zero = torch.ones_like(share), torch.zeros_like(share)
    return _linear(x, one, zero, zero, one, -2 * share, zero)


def translate_y(x: Tensor, share: Tensor) -> Tensor:
    """Move down by a share of the height."""
    one, zero = torch.ones_like(share), torch.zeros_like(share)
    return _linear(x, one, zero, zero, one, zero, -2 * share)


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Turn counter-clockwise about the centre."""
    cos, sin, ratio = degrees.deg2rad().cos(), degrees.deg2rad().sin(), x.shape[-2] / x.shape[-1]
    return _linear(x, cos, -sin * ratio, sin / ratio, cos, torch.zeros_like(cos), torch.zeros_like(cos))


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Away from black: 0 is black, 1 the image."""
    return stretch(x, 0.0, factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Away from the image's mean grey."""
    return stretch(x, gray(x).mean((2, 3), keepdim=True), factor)


def color(x: Tensor, factor: Tensor) -> Tensor:
    """Saturation, away from each pixel's grey."""
    return stretch(x, gray(x), factor)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Away from the image smoothed by 3 x 3 weights, 5 in the middle and 1 around; the outermost pixels stay."""
    inner = x[..., 1:-1, 1:-1]
    around = F.avg_pool2d(x, 3, stride=1, divisor_override=1)
    return stretch(x, F.pad((around + 4 * inner) / 13 - inner, (1, 1, 1, 1)) + x, factor)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits, 0 to 8, of 8."""
    step = wide(2 ** (8 - bits))
    return torch.floor((x * 255).round() / step) * step / 255


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at least `threshold`; one that exceeds 1 leaves all as it is."""
    return torch.where(x >= wide(threshold), 1 - x, x)


def solarize_add(x: Tensor, amount: Tensor) -> Tensor:
    """Add to what is darker than the middle of the scale."""
    return torch.where((x * 255).round() < 128, (x + wide(amount)).clamp(max=1), x)


def autocontrast(x: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel to [0, 1]; one of a single value stays. `amount` does nothing."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1), x)


def equalize(x: Tensor, amount: Tensor) -> Tensor:
    """Spread the levels of each channel evenly. An image of fewer than 256 pixels stays. `amount` does nothing."""
    from torchvision.transforms.v2 import functional as vision

    return torch.as_tensor(vision.equalize((x * 255).round().to(torch.uint8))).to(x.dtype) / 255


def invert(x: Tensor, amount: Tensor) -> Tensor:
    """The negative. `amount` does nothing."""
    return 1 - x


def identity(x: Tensor, amount: Tensor) -> Tensor:
    """The image. `amount` does nothing."""
    return x


class Operation(NamedTuple):
    """An operation, what limits it, and which changes of colour it makes.

    limit: the field of `Invariances` that its amount must not exceed, or nothing. hue: it moves channels apart, so
    that colours change. grey: it does something to an image of one channel.
    """

    change: Callable[[Tensor, Tensor], Tensor]
    limit: str = ""
    hue: bool = False
    grey: bool = True


OPERATIONS: Mapping[str, Operation] = {
    "identity": Operation(identity),
    "shear_x": Operation(shear_x, "shift"),
    "shear_y": Operation(shear_y, "shift"),
    "translate_x": Operation(translate_x, "shift"),
    "translate_y": Operation(translate_y, "shift"),
    "rotate": Operation(rotate, "rotation"),
    "brightness": Operation(brightness),
    "color": Operation(color, hue=True, grey=False),
    "contrast": Operation(contrast),
    "sharpness": Operation(sharpness),
    "posterize": Operation(posterize, hue=True),
    "solarize": Operation(solarize, hue=True),
    "solarize_add": Operation(solarize_add, hue=True),
    "autocontrast": Operation(autocontrast, hue=True),
    "equalize": Operation(equalize, hue=True),
    "invert": Operation(invert, hue=True),
}
"""All operations of the policies by name. A shear by s moves the far edge by s of the side."""


def one_each(
    x: Tensor,
    changes: Sequence[Callable[[Tensor], Tensor]],
    host: np.random.Generator,
    generator: torch.Generator,
    chances: Sequence[float] | None = None,
) -> Tensor:
    """Change each image by one of `changes`, drawn for it alone, all equally likely or by their `chances`.

    The host draws how many images each change gets and the device which, which together is a draw for each image; so
    a change is computed for its own images only, and nothing waits for the device. A change gets images (n, C, H, W).
    """
    counts = host.multinomial(len(x), chances or [1 / len(changes)] * len(changes)).tolist()
    order = torch.randperm(len(x), generator=generator, device=x.device)
    parts = torch.split(x[order], counts)
    out = torch.empty_like(x)
    out[order] = torch.cat(
        [change(part) if n else part for change, part, n in zip(changes, parts, counts, strict=True)]
    )
    return out
