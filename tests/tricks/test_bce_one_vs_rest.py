import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.bce_one_vs_rest import BceOneVsRest, bce_one_vs_rest


class TestBceOneVsRest(TrickConformance):
    trick = BceOneVsRest


def test_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # sigmoids 3/4, 1/2
    loss = bce_one_vs_rest(logits, torch.tensor([[1.0, 0.25]]))
    torch.testing.assert_close(loss, torch.tensor([-math.log(0.75) + math.log(2.0)]))


def test_gradient_is_sigmoid_minus_target():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.full((4, 5), 0.2)
    BceOneVsRest().criterion(logits, y, tiny_run()).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().sigmoid() - y)


def test_two_tied_logits_are_twice_the_softmax_loss():
    z = torch.linspace(-3, 3, 7)
    y = torch.eye(2)[torch.arange(7) % 2]
    binary = bce_one_vs_rest(torch.stack((z, -z), 1), y)
    softmax = soft_cross_entropy(torch.stack((z / 2, -z / 2), 1), y)
    torch.testing.assert_close(binary, 2 * softmax)


def test_threshold_makes_several_whole_labels():
    logits = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    loss = BceOneVsRest(target_threshold=0.2).criterion(logits, torch.tensor([[0.5, 0.3, 0.2, 0.0]]), tiny_run())
    torch.testing.assert_close(loss, bce_one_vs_rest(logits, torch.tensor([[1.0, 1.0, 0.0, 0.0]])))


@pytest.mark.parametrize(("classes", "times"), [(10, 1.67), (1000, 15.8)])
def test_first_gradients_are_longer_than_the_softmax_ones_by_what_the_card_says(classes, times):
    y = torch.eye(classes)[:1]

    def length(loss):
        logits = torch.zeros(1, classes, requires_grad=True)
        loss(logits, y).sum().backward()
        return float(logits.grad.norm())

    assert length(bce_one_vs_rest) / length(soft_cross_entropy) == pytest.approx(times, rel=3e-3)
    assert f"{times:g} times" in BceOneVsRest.info.differs
