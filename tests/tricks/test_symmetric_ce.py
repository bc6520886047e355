import math

import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.symmetric_ce import SymmetricCe, reverse_ce

LOGITS = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4


class TestSymmetricCe(TrickConformance):
    trick = SymmetricCe


def test_by_hand():
    loss = SymmetricCe(alpha=0.5, beta=2.0, a=-4.0).criterion(LOGITS, torch.tensor([[1.0, 0.0]]), tiny_run())
    torch.testing.assert_close(loss, torch.tensor([0.5 * math.log(4 / 3) + 2.0 * 4 * 0.25]))  # -a (1 - p_t)

    soft = reverse_ce(LOGITS, torch.tensor([[0.5, 0.5]]), -4.0)
    torch.testing.assert_close(soft, torch.tensor([math.log(2.0)]))


def test_without_the_cross_entropy_it_is_bounded():
    far = torch.tensor([[1000.0, 0.0]])
    loss = SymmetricCe(alpha=0.0, beta=1.0, a=-4.0).criterion(far, torch.tensor([[0.0, 1.0]]), tiny_run())
    torch.testing.assert_close(loss, torch.tensor([4.0]))


def test_the_plain_term_is_cross_entropy():
    logits, y = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.full((5, 4), 0.25)
    both, reverse = (SymmetricCe(alpha=a).criterion(logits, y, tiny_run()) for a in (1.0, 0.0))
    torch.testing.assert_close(both - reverse, soft_cross_entropy(logits, y))
