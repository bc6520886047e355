import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import mix
from harness.tricks.mixing.mixup_multi import MixupMulti, combine


class TestMixupMulti(TrickConformance):
    trick = MixupMulti


def test_three_images_by_hand():
    a = torch.tensor([[1.0], [10.0], [100.0]])
    mixed = combine(a, [torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])], [0.5, 0.3, 0.2])
    torch.testing.assert_close(mixed, torch.tensor([[23.5], [35.2], [52.3]]))


def test_two_images_are_mixup():
    x, partner = tiny_batch().x, torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(combine(x, [partner], [0.7, 0.3]), mix(x, partner, 0.7))


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_with_two_the_weights_have_mixups_law(alpha):
    """Beta(alpha, alpha) has mean one half and variance 1 / (4 (2 alpha + 1)); read off the targets."""
    run, batch = tiny_run(), tiny_batch(n=2)
    weights = []
    for _ in range(4000):
        y = MixupMulti(alpha=alpha, m=2).batch(batch, run).y
        if not torch.allclose(y, batch.y):
            weights.append(float(y[0, 0]))
    weights = torch.tensor(weights)
    assert abs(weights.mean() - 0.5) < 0.03
    assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 0.02


@pytest.mark.parametrize("m", [2, 3, 4])
def test_pixels_and_targets_carry_the_same_weights(m):
    """Image k is constant k / 10, so the mean label under the target is ten times the pixel."""
    run, batch = tiny_run(), tiny_batch(n=10)
    batch.x.copy_((batch.label / 10).view(-1, 1, 1, 1).expand_as(batch.x))
    most = 0
    for _ in range(50):
        mixed = MixupMulti(m=m).batch(batch, run)
        torch.testing.assert_close(mixed.x[:, 0, 0, 0] * 10, mixed.y @ torch.arange(10.0))
        torch.testing.assert_close(mixed.y.sum(1), torch.ones(10))
        most = max(most, int((mixed.y > 0).sum(1).max()))
    assert most == m
