"""Each operation is what Pillow and torchvision do to one image; and every image gets an operation of its own."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data import auto_augment as timm
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from draws import assert_independent, assert_share
from harness.tricks.operations import OPERATIONS, blur, gray, one_each

BILINEAR = InterpolationMode.BILINEAR
LEVEL = 1 / 255


def pictures(channels=3, n=4, side=33):
    """Whole grey levels, smooth enough that an operation on neighbours shows, and with some range left."""
    g = torch.Generator().manual_seed(1)
    x = blur(torch.rand(n, channels, side, side, generator=g), torch.full((n,), 1.0))
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (20 + 200 * (x - low) / (high - low)).round() / 255


def affine(slope_x=0.0, slope_y=0.0, right=0.0, down=0.0):
    def change(image, amount):
        shear = [math.degrees(math.atan(amount * slope)) for slope in (slope_x, slope_y)]
        moved = [round(amount * part * image.shape[-1]) for part in (right, down)]
        center = [0, 0] if slope_x or slope_y else None
        return vision.affine(
            image, angle=0.0, translate=moved, scale=1.0, shear=shear, center=center, interpolation=BILINEAR
        )

    return change


GEOMETRIC = {
    "shear_x": (affine(slope_x=1), (-0.3, 0.1, 0.99)),
    "shear_y": (affine(slope_y=1), (-0.3, 0.1, 0.99)),
    "translate_x": (affine(right=1), (-7 / 33, 3 / 33, 1.0)),
    "translate_y": (affine(down=1), (-7 / 33, 3 / 33, 1.0)),
    "rotate": (lambda image, degrees: vision.rotate(image, degrees, interpolation=BILINEAR), (-30.0, 9.0, 135.0)),
}


@pytest.mark.parametrize("name", GEOMETRIC)
def test_a_geometric_operation_is_torchvisions_on_each_image(name):
    theirs, amounts = GEOMETRIC[name]
    x = pictures(n=len(amounts))
    ours = OPERATIONS[name].change(x, torch.tensor(amounts))

    for image, amount, out in zip(x, amounts, ours, strict=True):
        torch.testing.assert_close(out, theirs(image, amount), atol=2e-4, rtol=0)
        assert not torch.equal(out, image)


def enhanced(kind):
    return lambda image, factor: kind(image).enhance(factor)


PHOTOMETRIC = {
    "brightness": (enhanced(ImageEnhance.Brightness), (0.1, 0.7, 1.9), 1),
    "color": (enhanced(ImageEnhance.Color), (0.1, 0.7, 1.9), 1.5),
    "contrast": (enhanced(ImageEnhance.Contrast), (0.1, 0.7, 1.9), 1),
    "sharpness": (enhanced(ImageEnhance.Sharpness), (0.1, 0.7, 1.9), 1.5),
    "posterize": (lambda image, bits: ImageOps.posterize(image, int(bits)), (1.0, 4.0, 7.0), 0),
    "solarize": (lambda image, share: ImageOps.solarize(image, share * 255), (0.2, 0.5, 256 / 255), 0),
    "solarize_add": (lambda image, add: timm.solarize_add(image, round(add * 255)), (0.0, 20 / 255, 110 / 255), 0),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), (0.0, 0.0, 0.0), 1),
    "equalize": (lambda image, _: ImageOps.equalize(image), (0.0, 0.0, 0.0), 0),
    "invert": (lambda image, _: ImageOps.invert(image), (0.0, 0.0, 0.0), 0),
    "identity": (lambda image, _: image, (0.0, 0.0, 0.0), 0),
}
"""Pillow's function, amounts, and how many of 256 levels it may be off: it rounds each step to one."""


@pytest.mark.parametrize("name", PHOTOMETRIC)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_photometric_operation_is_pillows_on_each_image(name, channels):
    theirs, amounts, levels = PHOTOMETRIC[name]
    x = pictures(channels, n=len(amounts))
    ours = OPERATIONS[name].change(x, torch.tensor(amounts))

    for image, amount, out in zip(x, amounts, ours, strict=True):
        picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy())
        expected = torch.from_numpy(np.array(theirs(picture, amount))).view(33, 33, channels).permute(2, 0, 1) / 255
        torch.testing.assert_close(out, expected, atol=levels * LEVEL + 1e-4, rtol=0)


def test_all_operations_are_compared():
    assert {*GEOMETRIC, *PHOTOMETRIC} == set(OPERATIONS)


@pytest.mark.parametrize("name", ["shear_x", "shear_y", "translate_x", "rotate"])
def test_oblong_images_keep_their_angles(name):
    theirs, (_, amount, _) = GEOMETRIC[name]
    x = pictures(n=1)[..., 4:28]
    amount = 3 / 24 if name == "translate_x" else amount
    torch.testing.assert_close(
        OPERATIONS[name].change(x, torch.tensor([amount]))[0], theirs(x[0], amount), atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("name", [n for n, o in OPERATIONS.items() if n not in ("autocontrast", "equalize", "invert")])
def test_each_amount_that_changes_nothing(name):
    still = {"posterize": 8.0, "solarize": 256 / 255, "identity": 0.0, "solarize_add": 0.0}
    enhancing = name in ("brightness", "color", "contrast", "sharpness")
    x = pictures()
    out = OPERATIONS[name].change(x, torch.full((4,), still.get(name, float(enhancing))))

    torch.testing.assert_close(out, x, atol=1e-5, rtol=0)


def test_what_is_said_of_colours_is_so():
    """On a tinted picture red exceeds green and green blue, until an operation changes the hue."""
    x = pictures(1) * torch.tensor([0.9, 0.6, 0.3]).view(1, 3, 1, 1)
    amounts = {"brightness": 0.7, "contrast": 0.7, "sharpness": 0.7, "posterize": 1.0, "solarize": 0.2,
               "solarize_add": 0.4, "rotate": 30.0}  # fmt: skip
    for name, operation in OPERATIONS.items():
        out = operation.change(x, torch.full((4,), amounts.get(name, 0.0)))[..., 10:-10, 10:-10]
        assert bool((out.diff(dim=1) < -1e-6).all()) == (not operation.hue), name


def test_what_does_nothing_on_one_channel_is_known():
    for name, operation in OPERATIONS.items():
        x = pictures(1)
        changed = not torch.equal(operation.change(x, torch.full((4,), 0.4)), x)
        assert changed == (operation.grey and name != "identity"), name


def test_gray_is_luma_for_colours():
    x = torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    assert float(gray(x)) == pytest.approx(0.299 + 0.5 * 0.587)


def tagged(n, times, k, chances=None):
    """Which of k changes each of n images got, (times, n)."""
    host, g = np.random.default_rng(0), torch.Generator().manual_seed(0)
    marks = [partial(torch.add, other=float(i + 1)) for i in range(k)]
    x = torch.zeros(n, 1, 1, 1)
    return torch.stack([one_each(x, marks, host, g, chances).flatten() for _ in range(times)]).long() - 1


def test_every_image_draws_a_change_of_its_own():
    found = tagged(n=3, times=3000, k=4)
    for k in range(4):
        for image in range(3):
            assert_share(found[:, image] == k, 0.25)
    # What one image gets says nothing of what another gets, although the numbers of each change are drawn first.
    assert_share(found[:, 0] == found[:, 1], 0.25)
    assert_independent(*(found == 0).double().T)


def test_chances_weigh_the_changes():
    found = tagged(n=1, times=3000, k=3, chances=(0.5, 0.3, 0.2))
    for k, chance in enumerate((0.5, 0.3, 0.2)):
        assert_share(found == k, chance)


def test_images_keep_their_places():
    x = torch.arange(50.0).view(50, 1, 1, 1)
    host, g = np.random.default_rng(0), torch.Generator().manual_seed(0)
    out = one_each(x, [lambda part: part, lambda part: part + 0.5], host, g)
    assert torch.equal(out.floor(), x)
    assert 0 < int((out != x).sum()) < 50
