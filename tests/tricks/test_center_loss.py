import copy

import pytest
import torch

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.core.mixup import Mixup
from harness.tricks.losses.center_loss import CenterLoss, center_loss, move
from harness.tricks.stack import Stack


class TestCenterLoss(TrickConformance):
    trick = CenterLoss


def test_by_hand_and_zero_at_the_centers():
    centers = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    features = torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    assert float(center_loss(features, centers, torch.tensor([0, 1]))) == 25 / 2 / 2
    assert float(center_loss(centers, centers, torch.tensor([0, 1]))) == 0


def test_gradient_is_the_difference_to_the_center():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(6, 3, generator=g).requires_grad_()
    centers, target = torch.randn(4, 3, generator=g), torch.tensor([0, 1, 1, 3, 3, 3])
    (gradient,) = torch.autograd.grad(center_loss(features, centers, target), features)

    torch.testing.assert_close(gradient, (features.detach() - centers[target]) / 6)


def test_centers_move_by_hand():
    """Class 0 has two features, class 1 none: n / (1 + n) of the way to the mean, and no move."""
    centers = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    features, target = torch.tensor([[3.0, 0.0], [3.0, 6.0]]), torch.tensor([0, 0])

    torch.testing.assert_close(move(centers, features, target, 1.0), torch.tensor([[2.0, 2.0], [5.0, 5.0]]))
    torch.testing.assert_close(move(centers, features, target, 0.5), torch.tensor([[1.0, 1.0], [5.0, 5.0]]))


def test_centers_approach_the_class_means():
    features, target = torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1])
    centers = torch.zeros(2, 1)
    for _ in range(60):
        centers = move(centers, features, target, 0.5)
    torch.testing.assert_close(centers, torch.tensor([[2.0], [7.0]]))


def test_a_step_of_training():
    run, batch, trick = tiny_run(), tiny_batch(), CenterLoss(weight=0.1, center_lr=1.0)
    run.model = trick.model(run.model, run)
    twin = copy.deepcopy(run.model)
    _, features = twin.forward_with_features(batch.x)
    for run.again in (False, True):  # as when the gradient is taken twice: the centers wait for the step
        logits = run.model(batch.x)
        assert trick.reduce_loss(logits.mean(), run) == logits.mean()
        run.model(batch.x**2)  # a pass of another trick's own
        term = trick.loss_terms(batch, logits, run)["center"]
        torch.testing.assert_close(term, 0.1 * features.square().sum(1).mean() / 2)
    trick.after_step(run)

    expected = torch.zeros(10, features.shape[1])
    expected[batch.label] = features.detach() / 2  # one image of each class
    torch.testing.assert_close(run.state[trick.name]["centers"], expected)


def test_refuses_mixing():
    with pytest.raises(UserError, match="no class's center"):
        Stack([CenterLoss(), Mixup()])
