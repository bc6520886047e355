import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.losses.squared_loss import SquaredLoss, squared_loss


class TestSquaredLoss(TrickConformance):
    trick = SquaredLoss


def test_by_hand():
    logits = torch.tensor([[2.0, -1.0]])
    loss = SquaredLoss(k=3.0, level=5.0).criterion(logits, torch.tensor([[1.0, 0.0]]), tiny_run())
    torch.testing.assert_close(loss, torch.tensor([(3 * 9 + 1) / 2]))


def test_is_the_squared_distance_to_the_one_hot_target_by_default_and_linear_in_targets():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    y = torch.eye(4)[torch.arange(6) % 4]
    torch.testing.assert_close(squared_loss(logits, y, 1.0, 1.0), (logits - y).square().mean(-1))

    other = y.roll(1, 0)
    mixed = squared_loss(logits, 0.3 * y + 0.7 * other, 2.0, 3.0)
    parts = [squared_loss(logits, target, 2.0, 3.0) for target in (y, other)]
    torch.testing.assert_close(mixed, 0.3 * parts[0] + 0.7 * parts[1])
