import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.bi_tempered import BiTempered, bi_tempered, exp_t, log_t, tempered_softmax


class TestBiTempered(TrickConformance):
    trick = BiTempered


def drawn(scale=3.0):
    logits = scale * torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return logits, torch.eye(4, dtype=torch.float64)[torch.arange(6) % 4]


def test_logarithms_and_exponentials_by_hand():
    x = torch.tensor([4.0])
    assert float(log_t(x, 0.5)) == pytest.approx(2.0)  # (sqrt(4) - 1) / 0.5
    assert float(log_t(x, 1.0)) == pytest.approx(math.log(4.0))
    assert float(exp_t(torch.tensor([2.0]), 0.5)) == pytest.approx(4.0)
    assert float(exp_t(torch.tensor([-1.0]), 2.0)) == pytest.approx(0.5)  # 1 / (1 + 1)


@pytest.mark.parametrize("t", [1.0, 1.2, 2.0])
def test_rows_sum_to_one_whatever_is_added_to_all_logits(t):
    logits, _ = drawn()
    p = tempered_softmax(logits, t)

    torch.testing.assert_close(p.sum(-1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(tempered_softmax(logits + 7, t), p)


def test_two_classes_at_temperature_two_by_hand():
    # exp_2(x) = 1 / (1 - x), so 1 / (1 + l) + 1 / (1 + l - z) = 1, of which l = (z + sqrt(z^2 + 4)) / 2.
    norm = (1.5 + math.sqrt(1.5**2 + 4)) / 2
    expected = torch.tensor([[1 / (1 + norm), 1 / (1 + norm - 1.5)]], dtype=torch.float64)
    torch.testing.assert_close(tempered_softmax(torch.tensor([[0.0, 1.5]], dtype=torch.float64), 2.0), expected)


def test_temperatures_of_one_are_cross_entropy():
    logits, y = drawn()
    torch.testing.assert_close(bi_tempered(logits, y, 1.0, 1.0), soft_cross_entropy(logits, y))
    with pytest.raises(NoEffect, match="softmax cross-entropy"):
        BiTempered(t1=1.0, t2=1.0).prepare(tiny_run())


def test_the_slope_is_that_of_finite_differences():
    logits, y = drawn(1.0)
    torch.autograd.gradcheck(lambda z: bi_tempered(z, y, 0.8, 1.2), logits.requires_grad_(), eps=1e-5, atol=1e-4)


def test_a_prediction_far_off_costs_a_bounded_loss():
    logits = torch.tensor([[1e4, 0.0]])
    loss = BiTempered(t1=0.5, t2=1.0).criterion(logits, torch.tensor([[0.0, 1.0]]), tiny_run())
    assert float(loss) == pytest.approx(2.0 - 2 / 3 + 2 / 3, abs=1e-4)  # -log_t(0) = 2; both (2 - t) terms are 2/3
