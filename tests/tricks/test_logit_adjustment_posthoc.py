import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.losses.logit_adjustment_posthoc import LogitAdjustmentPosthoc


class TestLogitAdjustmentPosthoc(TrickConformance):
    trick = LogitAdjustmentPosthoc
    data = {"imbalance": 0.2}  # noqa: RUF012


def test_the_log_shares_are_subtracted():
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(30, 10)))
    logits = torch.tensor([[1.0, 0.5]])
    shifted = LogitAdjustmentPosthoc(tau=2.0).predictor(lambda x: x, run)(logits)
    assert (shifted[0, 1] - shifted[0, 0]).item() == pytest.approx(-0.5 + 2 * math.log(3))


def test_a_network_that_knows_nothing_but_the_shares_knows_nothing_afterwards():
    run = tiny_run(info=tiny_info(classes=3)._replace(train_counts=(80, 15, 5)))
    shares = torch.tensor([[0.8, 0.15, 0.05]]).log()
    out = LogitAdjustmentPosthoc().predictor(lambda x: x, run)(shares).softmax(-1)
    torch.testing.assert_close(out, torch.full((1, 3), 1 / 3))


def test_balanced_classes_are_refused():
    with pytest.raises(NoEffect, match="equally frequent"):
        LogitAdjustmentPosthoc().prepare(tiny_run())
