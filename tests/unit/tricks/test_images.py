"""The helpers of functional.py that move pixels."""

import math

import pytest
import torch

from harness.data.batches import Loader
from harness.experiment import Augment
from harness.testing import tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.images import affine, augmented, check_allowed, warp, windows


def matrices(n=1, angle=0.0, scale=1.0, shear=0.0, right=0.0, down=0.0):
    values = (angle, scale, shear, right, down)
    return affine(*(torch.full((n,), v, dtype=torch.float64) for v in values))


def picture(n=2, channels=3, size=8):
    return tiny_batch(n=n, channels=channels, size=size).x.double()


def test_windows_by_hand():
    padded = torch.arange(32.0).view(2, 1, 4, 4)
    cut = windows(padded, torch.tensor([0, 2]), torch.tensor([1, 2]), 2)
    assert cut[0, 0].tolist() == [[1, 2], [5, 6]]
    assert cut[1, 0].tolist() == [[26, 27], [30, 31]]


def test_identity():
    torch.testing.assert_close(warp(picture(), matrices(2)), picture())


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_counter_clockwise_and_exact(quarters):
    turned = warp(picture(), matrices(2, angle=quarters * math.pi / 2))
    torch.testing.assert_close(turned, torch.rot90(picture(), quarters, (-2, -1)))


def test_moves_right_and_down_by_fractions_of_the_side_with_black_border():
    moved = warp(picture(), matrices(2, right=0.25, down=0.125))
    torch.testing.assert_close(moved[..., 1:, 2:], picture()[..., :-1, :-2])
    assert moved[..., :1, :].abs().max() < 1e-12
    assert moved[..., :2].abs().max() < 1e-12


def test_scale_two_shows_the_middle_at_double_size():
    """Bilinear sampling at quarters between the pixel centres, written out for the first one."""
    x = picture(1, 1)
    big = warp(x, matrices(scale=2.0))
    top = 0.75 * x[0, 0, 2, 2] + 0.25 * x[0, 0, 2, 1]
    above = 0.75 * x[0, 0, 1, 2] + 0.25 * x[0, 0, 1, 1]
    torch.testing.assert_close(big[0, 0, 0, 0], 0.75 * top + 0.25 * above)


def test_shear_moves_columns_in_proportion_to_their_height():
    """Slope one takes each row to the side by its distance from the centre: -3.5 ... 3.5 pixels."""
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    x[0, 0, :, 4] = 1
    sheared = warp(x, matrices(shear=math.pi / 4))
    centres = (sheared[0, 0] * torch.arange(8.0)).sum(1)
    torch.testing.assert_close(centres[1:7], 4 + torch.arange(1.0, 7.0).double() - 3.5)


def test_inverse_parameters_undo_the_matrix():
    there = matrices(angle=0.3, scale=1.2, shear=0.2, right=0.1, down=-0.2)
    x, y, one = there.inverse()[0] @ torch.tensor([0.4, -0.6, 1.0], dtype=torch.float64)
    # Forward by hand: scale, shear, turn (counter-clockwise where y points down), move.
    u, v = 1.2 * 0.4, 1.2 * -0.6
    u += math.tan(0.2) * v
    u, v = u * math.cos(0.3) + v * math.sin(0.3), -u * math.sin(0.3) + v * math.cos(0.3)
    assert [float(x), float(y), float(one)] == pytest.approx([u + 0.2, v - 0.4, 1.0])


def test_each_image_has_its_own_matrix():
    both = torch.cat((matrices(), matrices(angle=math.pi)))
    x = picture(1).expand(2, -1, -1, -1)
    torch.testing.assert_close(warp(x, both), torch.stack((x[0], torch.rot90(x[0], 2, (-2, -1)))))


def test_black_outside():
    small = warp(torch.ones(1, 1, 8, 8), matrices(scale=0.5).float())
    assert torch.equal(small[0, 0].round(), torch.nn.functional.pad(torch.ones(4, 4), (2,) * 4))


@pytest.mark.parametrize(
    "augment",
    [
        Augment(),
        Augment(shift=0.125),
        Augment(shift=0.25, flip=True),
        Augment(flip=True, rotation=30.0),
        Augment(shift=0.125, scale_min=0.3, rotation=10.0),
    ],
)
def test_augments_as_the_loader_does(augment):
    """The same draws give the same pixels as the loader's, so partners look like the batch's images."""
    train, n = tiny_run(channels=3).train, 80
    g = [torch.Generator().manual_seed(7) for _ in range(2)]
    loader = Loader(train, augment, n, "cpu", 10, torch.Generator(), g[0], channels_last=False)
    (batch,) = loader.epoch(torch.arange(n))
    torch.testing.assert_close(augmented(train.images.permute(0, 3, 1, 2) / 255, augment, g[1]), batch.x)


def test_limits():
    check_allowed("degrees", 10.0, 10.0, force=False)
    check_allowed("degrees", 40.0, 10.0, force=True)
    with pytest.raises(NotApplicable, match="degrees = 11 may change the class of images that bear 10"):
        check_allowed("degrees", 11.0, 10.0, force=False)
