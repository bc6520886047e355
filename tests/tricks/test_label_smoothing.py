import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.core.label_smoothing import LabelSmoothing, smooth
from harness.tricks.core.mixup import Mixup
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.stack import Stack


class TestLabelSmoothing(TrickConformance):
    trick = LabelSmoothing


def logits64(n=8, classes=10):
    return torch.randn(n, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_targets_by_hand():
    got = LabelSmoothing(eps=0.1).batch(tiny_batch(n=2), tiny_run()).y

    assert got[1].tolist() == pytest.approx([0.01, 0.91] + [0.01] * 8)


def test_class_frequencies_by_hand():
    run = tiny_run(info=tiny_info()._replace(train_counts=(30, *[5] * 8, 10)))
    got = LabelSmoothing(eps=0.2, prior="class_freq").batch(tiny_batch(n=1), run).y

    assert got[0].tolist() == pytest.approx([0.8 + 0.2 * 0.375] + [0.2 * 0.0625] * 8 + [0.2 * 0.125])


def test_loss_decomposes_and_agrees_with_torch():
    z, y = logits64(), tiny_batch().y.double()
    u = torch.full((10,), 0.1, dtype=torch.float64)
    loss = soft_cross_entropy(z, smooth(y, 0.3, u))

    parts = 0.7 * soft_cross_entropy(z, y) + 0.3 * soft_cross_entropy(z, u.expand(8, 10))
    torch.testing.assert_close(loss, parts, atol=1e-12, rtol=0)
    oracle = F.cross_entropy(z, tiny_batch().label, label_smoothing=0.3, reduction="none")
    torch.testing.assert_close(loss, oracle, atol=1e-12, rtol=0)


def test_gradient_is_prediction_minus_target():
    z, y = logits64().requires_grad_(), LabelSmoothing().batch(tiny_batch(), tiny_run()).y.double()
    soft_cross_entropy(z, y).sum().backward()

    torch.testing.assert_close(z.grad, z.softmax(-1).detach() - y, atol=1e-7, rtol=0)


def test_zero_is_the_identity():
    batch = tiny_batch()
    assert torch.equal(LabelSmoothing(eps=0.0).batch(batch, tiny_run()).y, batch.y)


def test_smooths_after_mixing_and_once():
    run, batch = tiny_run(), tiny_batch()
    both = Stack([LabelSmoothing(eps=0.5), Mixup()]).fold("batch", batch, run)
    mixed = Mixup().batch(batch, tiny_run())

    assert torch.equal(both.x, mixed.x)
    torch.testing.assert_close(both.y, 0.5 * mixed.y + 0.05)
