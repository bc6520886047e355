import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import effective_weights, soft_cross_entropy
from harness.tricks.losses.class_balanced_loss import ClassBalancedLoss, base_loss


class TestClassBalancedLoss(TrickConformance):
    trick = ClassBalancedLoss
    data = {"imbalance": 0.2}  # noqa: RUF012


def run_of(*counts):
    return tiny_run(info=tiny_info(classes=len(counts))._replace(train_counts=counts))


def test_weights_by_hand_and_at_their_limits():
    assert effective_weights((1, 2), 0.5) == pytest.approx((1.2, 0.8))  # 1 : 0.5 / 0.75, scaled to the sum 2
    assert effective_weights((1, 4), 0.0) == (1.0, 1.0)
    assert effective_weights((1, 4), 1 - 1e-9) == pytest.approx((1.6, 0.4), rel=1e-6)  # the inverse of n


@pytest.mark.parametrize(
    ("base", "loss"),
    [("softmax", math.log(4.0)), ("sigmoid", 2 * math.log(2.0)), ("focal", 0.5 * 2 * math.log(2.0))],
)
def test_by_hand(base, loss):
    logits = torch.zeros(1, 4 if base == "softmax" else 2)
    y = torch.eye(logits.shape[1])[:1]
    run = run_of(*[1] * (logits.shape[1] - 1), 2)
    weight = effective_weights(run.data.train_counts, 0.5)[0]
    found = ClassBalancedLoss(base=base, beta=0.5, gamma=1.0).criterion(logits, y, run)
    torch.testing.assert_close(found, torch.tensor([weight * loss]))


def test_focal_at_zero_is_sigmoid_and_its_focus_is_on_the_right_side():
    logits, y = torch.tensor([[2.0, -3.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(base_loss(logits, y, "focal", 0.0), base_loss(logits, y, "sigmoid", 0.0))
    assert base_loss(logits, y, "focal", 2.0) < 0.05 * base_loss(logits, y, "sigmoid", 0.0)
    torch.testing.assert_close(base_loss(logits, y, "softmax", 0.0), soft_cross_entropy(logits, y))


def test_what_would_be_the_baseline_is_refused():
    with pytest.raises(NoEffect, match="equally frequent"):
        ClassBalancedLoss().prepare(tiny_run())
    with pytest.raises(NoEffect, match="all classes alike"):
        ClassBalancedLoss(base="softmax", beta=0.0).prepare(run_of(1, 2))
