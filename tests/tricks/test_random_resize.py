import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.random_resize import RandomResize, resize
from harness.tricks.contract import NoEffect, NotApplicable


class TestRandomResize(TrickConformance):
    trick = RandomResize


def spread(x):
    """Root of the second moment of the ink about the centre, per image and axis x."""
    place = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    ink = x.sum((1, 2))
    return ((ink * place**2).sum(1) / ink.sum(1)).sqrt()


def bump(n, size=64, sigma=6.0):
    place = torch.arange(size) - (size - 1) / 2
    line = torch.exp(-0.5 * (place / sigma) ** 2)
    return (line[:, None] * line).expand(n, 1, size, size).contiguous()


def test_scale_one_is_the_identity():
    x = tiny_batch().x
    torch.testing.assert_close(resize(x, torch.ones(8)), x)


def test_sizes_grow_by_the_factor_of_each_image():
    factors = torch.tensor([0.5, 0.8, 1.0, 1.5])
    torch.testing.assert_close(spread(resize(bump(4), factors)), 6 * factors, rtol=0.01, atol=0)


def test_half_size_averages_pairs_and_is_black_around():
    """The sampling points of the small image lie midway between four pixels."""
    x = tiny_batch(n=1).x
    small = resize(x, torch.tensor([0.5]))
    torch.testing.assert_close(small[..., 2:6, 2:6], torch.nn.functional.avg_pool2d(x, 2))
    assert not small[..., :2, :].any()


def test_factors_are_uniform_between_low_and_high():
    batch = tiny_batch(n=500, size=64)
    batch.x.copy_(bump(500))
    out = RandomResize(low=0.7, high=1.3).batch(batch, tiny_run(size=64))
    factors = spread(out.x) / 6

    assert 0.69 < factors.min() < 0.72
    assert 1.28 < factors.max() < 1.31
    assert abs(factors.mean() - 1) < 0.03
    assert abs(factors.std() - 0.6 / 12**0.5) < 0.02


def test_refuses_what_leaves_the_frame_or_does_nothing():
    run = tiny_run(info=tiny_info()._replace(invariances=tiny_info().invariances._replace(shift=0.125)))
    RandomResize(low=0.8, high=1.25).prepare(run)
    with pytest.raises(NotApplicable, match=r"1 - low = 0\.3 .* bear 0\.25"):
        RandomResize(low=0.7).prepare(run)
    with pytest.raises(NotApplicable, match="high - 1"):
        RandomResize(high=1.3).prepare(run)
    RandomResize(high=1.3, force=True).prepare(run)
    with pytest.raises(NoEffect, match="as it is"):
        RandomResize(low=1.0, high=1.0).prepare(run)
