import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.random_blur import RandomBlur
from harness.tricks.operations import blur, smoother


class TestRandomBlur(TrickConformance):
    trick = RandomBlur


def test_rows_by_hand():
    row = smoother(torch.tensor([1.0]), 3)[0, 0]
    weights = torch.tensor([0.0, -0.5, -2.0]).exp()
    torch.testing.assert_close(row, weights / weights.sum())


def test_constant_images_stay():
    x = torch.full((3, 3, 8, 8), 0.7)
    torch.testing.assert_close(blur(x, torch.tensor([0.3, 1.0, 20.0])), x)


def test_sigma_zero_is_the_identity():
    x = tiny_batch(channels=3).x
    assert torch.equal(blur(x, torch.zeros(8)), x)
    torch.testing.assert_close(blur(x, torch.full((8,), 0.1)), x)


def test_a_point_becomes_a_gaussian_of_each_images_own_width():
    x = torch.zeros(2, 1, 41, 41)
    x[..., 20, 20] = 1
    sigma = torch.tensor([1.0, 3.0])
    out = blur(x, sigma)
    place = torch.arange(41) - 20.0

    torch.testing.assert_close(out.sum((1, 2, 3)), torch.ones(2), rtol=1e-4, atol=0)
    torch.testing.assert_close((out.sum((1, 2)) @ place**2).sqrt(), sigma, rtol=1e-3, atol=0)
    torch.testing.assert_close(out, out.mT)


def test_deviations_are_uniform_up_to_sigma_times_the_side():
    run, batch = tiny_run(size=41), tiny_batch(n=600, size=41)
    batch.x.zero_()
    batch.x[..., 20, 20] = 1
    out = RandomBlur(sigma=0.1, p=1.0).batch(batch, run).x
    width = (out.sum((1, 2)) @ (torch.arange(41) - 20.0) ** 2).sqrt()

    assert 3.9 < width.max() < 4.15
    assert abs(width.mean() - 2.05) < 0.15


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_image_is_changed_with_probability_p(p):
    batch = tiny_batch(n=1000)
    out = RandomBlur(p=p, sigma=1.0).batch(batch, tiny_run())
    changed = (out.x != batch.x).flatten(1).any(1).float().mean()
    assert abs(changed - p) <= 0.05
    assert p != 0 or torch.equal(out.x, batch.x)
