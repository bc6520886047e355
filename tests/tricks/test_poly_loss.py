import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.poly_loss import PolyLoss, poly_loss


class TestPolyLoss(TrickConformance):
    trick = PolyLoss


def test_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4
    hard = poly_loss(logits, torch.tensor([[0.0, 1.0]]), 2.0)
    soft = poly_loss(logits, torch.tensor([[0.8, 0.2]]), 2.0)

    torch.testing.assert_close(hard, torch.tensor([math.log(4.0) + 2 * 0.75]))
    torch.testing.assert_close(soft, torch.tensor([0.8 * math.log(4 / 3) + 0.2 * math.log(4.0) + 2 * 0.35]))


@pytest.mark.parametrize("eps", [-1.0, 0.0, 2.0])
def test_gradient_is_that_of_cross_entropy_times_a_factor(eps):
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.eye(4, dtype=torch.float64)[torch.arange(6) % 4]
    (poly,) = torch.autograd.grad(PolyLoss(eps=eps).criterion(logits, y, tiny_run()).sum(), logits)
    (plain,) = torch.autograd.grad(soft_cross_entropy(logits, y).sum(), logits)
    p = (logits.softmax(-1) * y).sum(-1, keepdim=True).detach()

    torch.testing.assert_close(poly, (1 + eps * p) * plain)


def test_eps_zero_is_cross_entropy():
    logits, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.full((6, 4), 0.25)
    torch.testing.assert_close(poly_loss(logits, y, 0.0), soft_cross_entropy(logits, y))
