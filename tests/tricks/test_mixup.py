import pytest
import torch

from draws import assert_beta, assert_share, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.core import mixup as module
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


@pytest.mark.parametrize("per", ["batch", "elem"])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_weights_have_a_beta_distribution(alpha, per, monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "mixup"), tiny_run(), tiny_batch(n=2)
    for _ in range(2000 if per == "batch" else 1000):
        Mixup(alpha=alpha, per=per).batch(batch, run)
    weights = [float(w) for _, _, weight in calls for w in torch.as_tensor(weight).view(-1)]

    assert len(weights) == 2000
    assert_beta(weights, alpha)


def test_by_default_one_uniform_weight_mixes_every_batch():
    """Beta(1, 1) is uniform; the weight is read off the targets that reach the loss."""
    run, batch = tiny_run(), tiny_batch(n=8)
    weights = []
    for _ in range(600):
        mixed = Mixup().batch(batch, run)
        assert mixed is not batch
        own = mixed.y[torch.arange(8), batch.label]
        partners = own < 1 - 1e-6
        if partners.any():
            torch.testing.assert_close(own[partners], own[partners][:1].expand(int(partners.sum())))
            weights.append(float(own[partners][0]))

    assert_beta(weights, 1.0)


@pytest.mark.parametrize("prob", [0.25, 0.5, 1.0])
def test_acts_with_the_given_probability(prob):
    run, batch = tiny_run(), tiny_batch(n=2)
    assert_share([Mixup(prob=prob).batch(batch, run) is not batch for _ in range(1000)], prob)


def test_every_image_is_as_likely_a_partner_as_any_other(monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "mixup"), tiny_run(), tiny_batch(n=4)
    for _ in range(800):
        Mixup().batch(batch, run)
    partners = torch.stack([partner for _, partner, _ in calls])

    for i in range(4):
        for j in range(4):
            assert_share(partners[:, i] == j, 0.25)
