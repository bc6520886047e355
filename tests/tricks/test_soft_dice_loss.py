from dataclasses import replace

import pytest
import torch
from sklearn.metrics import f1_score

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.soft_dice_loss import SoftDiceLoss, soft_dice


class TestSoftDiceLoss(TrickConformance):
    trick = SoftDiceLoss


def test_by_hand():
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    y = torch.eye(2)
    # Class 0: 2 * 0.75 / (1.25 + 1) = 2/3; class 1: 2 * 0.5 / (0.75 + 1) = 4/7.
    torch.testing.assert_close(soft_dice(p, y), torch.tensor(1 - (2 / 3 + 4 / 7) / 2))


def test_hard_predictions_give_one_minus_macro_f1():
    g = torch.Generator().manual_seed(0)
    label, predicted = (torch.randint(0, 5, (60,), generator=g) for _ in range(2))
    expected = 1 - f1_score(label.numpy(), predicted.numpy(), average="macro")

    assert float(soft_dice(torch.eye(5)[predicted], torch.eye(5)[label])) == pytest.approx(expected, abs=1e-6)


def test_perfect_predictions_give_zero_and_absent_classes_do_not_count():
    y = torch.eye(10)[torch.tensor([3, 3, 7])]
    assert float(soft_dice(y, y)) == 0
    smoothed = 0.9 * y + 0.01
    only = soft_dice(torch.full((3, 10), 0.1), smoothed)
    expected = [2 * 0.1 * n / (0.3 + n) for n in (2 * 0.91 + 0.01, 0.91 + 2 * 0.01)]
    torch.testing.assert_close(only, torch.tensor(1 - sum(expected) / 2))


def test_dice_follows_from_intersection_over_union():
    """Dice = 2 IoU / (1 + IoU), class by class."""
    y = torch.eye(2)[torch.tensor([0, 0, 0, 1, 1])]
    p = torch.eye(2)[torch.tensor([0, 0, 1, 0, 0])]
    iou = 2 / 5  # of class 0; class 1 has none
    assert float(soft_dice(p, y)) == pytest.approx(1 - (2 * iou / (1 + iou)) / 2)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_loss_that_is_minimised(weight):
    run, batch, trick = tiny_run(), tiny_batch(), SoftDiceLoss(weight=weight)
    batch = replace(batch, y=0.9 * batch.y + 0.01)
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    ce = soft_cross_entropy(logits, batch.y)
    loss = (ce * trick.example_weights(batch, logits, run)).mean() + trick.loss_terms(batch, logits, run)["dice"]

    torch.testing.assert_close(loss, (1 - weight) * ce.mean() + weight * soft_dice(logits.softmax(-1), batch.y))
