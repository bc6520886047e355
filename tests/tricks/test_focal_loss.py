import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.focal_loss import FocalLoss, focal_loss


class TestFocalLoss(TrickConformance):
    trick = FocalLoss


def problem(n=16, k=5):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(n, k, dtype=torch.float64, generator=g).requires_grad_()
    return logits, torch.eye(k, dtype=torch.float64)[torch.arange(n) % k]


def test_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4
    hard = focal_loss(logits, torch.tensor([[1.0, 0.0]]), 2.0)
    soft = focal_loss(logits, torch.tensor([[0.5, 0.5]]), 2.0)

    torch.testing.assert_close(hard, torch.tensor([-math.log(0.75) / 16]))
    torch.testing.assert_close(soft, torch.tensor([-0.5 * math.log(0.75) / 16 - 0.5 * math.log(0.25) * 9 / 16]))


def test_gamma_zero_is_cross_entropy():
    logits, y = problem()
    run = tiny_run()
    torch.testing.assert_close(FocalLoss(gamma=0.0).criterion(logits, y, run), soft_cross_entropy(logits, y))


@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_gradient_is_that_of_cross_entropy_times_a_factor(gamma):
    logits, y = problem()
    (focal,) = torch.autograd.grad(focal_loss(logits, y, gamma).sum(), logits)
    (plain,) = torch.autograd.grad(soft_cross_entropy(logits, y).sum(), logits)
    p = (logits.softmax(-1) * y).sum(-1, keepdim=True).detach()
    factor = (1 - p) ** gamma - gamma * p * (1 - p) ** (gamma - 1) * p.log()

    torch.testing.assert_close(focal, factor * plain)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
def test_certain_predictions_keep_finite_gradients(gamma):
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), gamma)
    loss.sum().backward()

    torch.testing.assert_close(loss.detach(), torch.tensor([0.0, 200.0]))
    assert logits.grad.isfinite().all()
