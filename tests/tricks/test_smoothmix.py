import math
from dataclasses import replace

import pytest
import torch

from draws import assert_independent, assert_share, assert_uniform, recorded
from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.mixing import smoothmix as module
from harness.tricks.mixing.smoothmix import SmoothMix, bump


class TestSmoothMix(TrickConformance):
    trick = SmoothMix


def test_mask_by_hand():
    mask = bump(torch.tensor([[1.0, 2.0]]), torch.tensor([2.0]), (3, 5))[0]
    assert float(mask[1, 2]) == 1.0
    assert float(mask[2, 4]) == pytest.approx(math.exp(-5 / 8))
    torch.testing.assert_close(mask, mask.flip(1))


def test_targets_follow_the_mean_of_the_mask_of_each_image():
    """Image i is constant i / 8, so pixels say how much of each is there."""
    run, batch = tiny_run(), tiny_batch(8)
    batch = replace(batch, x=(torch.arange(8.0) / 8).view(-1, 1, 1, 1).expand(8, 1, 8, 8))
    for _ in range(20):
        out = SmoothMix().batch(batch, run)
        torch.testing.assert_close(out.y @ (torch.arange(10.0) / 8), out.x.mean((1, 2, 3)))


@pytest.mark.parametrize(("params", "low", "high"), [({}, 0.25, 0.5), ({"low": 0.1, "high": 0.9}, 0.1, 0.9)])
def test_widths_and_middles_are_drawn_for_each_image(params, low, high, monkeypatch):
    calls = recorded(monkeypatch, module, "bump")
    SmoothMix(**params).batch(tiny_batch(2000), tiny_run())
    ((center, sigma, size),) = calls

    assert size == (8, 8)
    assert_uniform(sigma / 8, low, high)
    u = torch.rand(2, 2000, generator=torch.Generator().manual_seed(0))
    for k in range(2):
        assert_uniform(center[:, k] + u[k], 0, 8)
    assert_independent(sigma, center[:, 0], center[:, 1])


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_a_batch_is_mixed_with_probability_prob(prob):
    run, batch = tiny_run(), tiny_batch(4)
    assert_share([SmoothMix(prob=prob).batch(batch, run) is not batch for _ in range(600)], prob)


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(UserError, match=r"low = 0\.6 exceeds high = 0\.5"):
        registry.make("smoothmix", {"low": 0.6})
