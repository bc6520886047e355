import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.core.mixup import Mixup, mixup
from harness.tricks.functional import soft_cross_entropy


class TestMixup(TrickConformance):
    trick = Mixup


def test_mixes_pixels_and_targets_by_hand():
    batch = tiny_batch(n=2)
    mixed = mixup(batch, torch.tensor([1, 0]), 0.25)

    torch.testing.assert_close(mixed.x[0], 0.25 * batch.x[0] + 0.75 * batch.x[1])
    torch.testing.assert_close(mixed.y[1], 0.25 * batch.y[1] + 0.75 * batch.y[0])


def test_loss_of_the_mixture_is_the_mixture_of_losses():
    batch = tiny_batch(n=8)
    partner = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = batch.y.double()
    mixed = mixup(Batch64(batch, y), partner, 0.3)

    expected = 0.3 * soft_cross_entropy(logits, y) + 0.7 * soft_cross_entropy(logits, y[partner])
    torch.testing.assert_close(soft_cross_entropy(logits, mixed.y), expected)


def Batch64(batch, y):
    from dataclasses import replace

    return replace(batch, x=batch.x.double(), y=y)


def test_weight_one_is_the_identity():
    batch = tiny_batch(n=4)
    mixed = mixup(batch, torch.tensor([3, 2, 1, 0]), 1.0)

    assert torch.equal(mixed.x, batch.x)
    assert torch.equal(mixed.y, batch.y)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_weights_have_the_moments_of_a_beta_distribution(alpha):
    """Mean one half and variance 1 / (4 (2 alpha + 1)), read off the targets that reach the loss."""
    run = tiny_run()
    batch = tiny_batch(n=2)
    trick = Mixup(alpha=alpha, per="elem")
    weights = []
    for _ in range(4000):
        mixed = trick.batch(batch, run)
        own = mixed.y[0, batch.label[0]]
        if not torch.equal(mixed.y[0], batch.y[0]):
            weights.append(float(own))
    weights = torch.tensor(weights)

    assert abs(weights.mean() - 0.5) < 0.03
    assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 0.02
