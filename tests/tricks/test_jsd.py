import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.jsd import Jsd, jensen_shannon


class TestJsd(TrickConformance):
    trick = Jsd


def drawn():
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return logits, torch.eye(4, dtype=torch.float64)[torch.arange(6) % 4]


def test_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4; m = 7/8, 1/8
    loss = Jsd().criterion(logits, torch.tensor([[1.0, 0.0]]), tiny_run())
    kl_y, kl_p = math.log(8 / 7), 0.75 * math.log(6 / 7) + 0.25 * math.log(2.0)

    torch.testing.assert_close(loss, torch.tensor([(0.5 * kl_y + 0.5 * kl_p) / (0.5 * math.log(2.0))]))


def test_ends_are_cross_entropy_and_half_the_absolute_error():
    logits, y = drawn()
    torch.testing.assert_close(jensen_shannon(logits, y, 1e-6), soft_cross_entropy(logits, y), rtol=1e-4, atol=1e-4)
    error = (logits.softmax(-1) - y).abs().sum(-1) / 2
    torch.testing.assert_close(jensen_shannon(logits, y, 1 - 1e-9), error, rtol=0.1, atol=0)


@pytest.mark.parametrize("w", [0.1, 0.5, 0.9])
def test_is_zero_where_they_agree_and_bounded_where_they_do_not(w):
    y = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    torch.testing.assert_close(jensen_shannon(y.log(), y, w), torch.zeros(1, dtype=torch.float64))
    worst = jensen_shannon(torch.tensor([[1e3, 0.0]]), torch.tensor([[0.0, 1.0]]), w)
    bound = -(w * math.log(w) + (1 - w) * math.log(1 - w)) / (-(1 - w) * math.log(1 - w))
    assert float(worst) == pytest.approx(bound, rel=1e-5)
