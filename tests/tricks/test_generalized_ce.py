import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.generalized_ce import GeneralizedCe, generalized_ce

LOGITS = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4


class TestGeneralizedCe(TrickConformance):
    trick = GeneralizedCe


def test_by_hand():
    hard = GeneralizedCe(q=0.5).criterion(LOGITS, torch.tensor([[0.0, 1.0]]), tiny_run())
    soft = generalized_ce(LOGITS, torch.tensor([[0.5, 0.5]]), 0.5)

    torch.testing.assert_close(hard, torch.tensor([1.0]))  # (1 - sqrt(1/4)) / 0.5
    torch.testing.assert_close(soft, torch.tensor([0.5 * 2 * (1 - math.sqrt(0.75)) + 0.5]))


def test_ends_are_half_the_absolute_error_and_cross_entropy():
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.eye(4, dtype=torch.float64)[torch.arange(6) % 4]

    torch.testing.assert_close(generalized_ce(logits, y, 1.0), (logits.softmax(-1) - y).abs().sum(-1) / 2)
    torch.testing.assert_close(generalized_ce(logits, y, 1e-7), soft_cross_entropy(logits, y), rtol=1e-5, atol=0)


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
def test_gradient_is_that_of_cross_entropy_times_a_power_of_the_targets_probability(q):
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = torch.eye(4, dtype=torch.float64)[torch.arange(6) % 4]
    (ours,) = torch.autograd.grad(generalized_ce(logits, y, q).sum(), logits)
    (plain,) = torch.autograd.grad(soft_cross_entropy(logits, y).sum(), logits)

    torch.testing.assert_close(ours, (logits.softmax(-1) * y).sum(-1, keepdim=True).detach() ** q * plain)
