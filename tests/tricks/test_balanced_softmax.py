import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.losses.balanced_softmax import BalancedSoftmax
from harness.tricks.losses.logit_adjustment import LogitAdjustment


class TestBalancedSoftmax(TrickConformance):
    trick = BalancedSoftmax
    data = {"imbalance": 0.2}  # noqa: RUF012


def test_by_hand_and_equal_to_logit_adjustment_at_one():
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(3, 2)))
    logits, y = torch.tensor([[0.0, math.log(2.0)]]), torch.tensor([[1.0, 0.0]])
    loss = BalancedSoftmax().criterion(logits, y, run)  # 3 e^0 against 2 e^log 2 = 4

    torch.testing.assert_close(loss, torch.tensor([math.log(7 / 3)]))
    assert torch.equal(loss, LogitAdjustment(tau=1.0).criterion(logits, y, run))


def test_balanced_classes_are_refused():
    with pytest.raises(NoEffect, match="equally frequent"):
        BalancedSoftmax().prepare(tiny_run())
