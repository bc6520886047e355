import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import adjusted, class_shares, soft_cross_entropy
from harness.tricks.losses.logit_adjustment import LogitAdjustment


class TestLogitAdjustment(TrickConformance):
    trick = LogitAdjustment
    data = {"imbalance": 0.2}  # noqa: RUF012


def run_of(*counts):
    return tiny_run(info=tiny_info(classes=len(counts))._replace(train_counts=counts))


def test_by_hand():
    logits, y = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
    loss = LogitAdjustment(tau=2.0).criterion(logits, y, run_of(3, 1))  # p = 9/10, 1/10
    torch.testing.assert_close(loss, torch.tensor([math.log(10.0)]))


def test_recovers_the_rule_of_balanced_classes():
    """Logits that are right for the imbalanced classes are those of the balanced ones plus the adjustment."""
    likelihood = torch.tensor([[0.2, 0.6], [0.5, 0.1]])
    prior = torch.tensor([0.9, 0.1])
    posterior = (likelihood * prior) / (likelihood * prior).sum(-1, keepdim=True)
    balanced = likelihood / likelihood.sum(-1, keepdim=True)

    torch.testing.assert_close(adjusted(balanced.log(), (9, 1), 1.0).softmax(-1), posterior)


def test_shares_count_an_empty_class_as_one_image():
    assert class_shares((3, 1, 0)) == (0.75, 0.25, 0.25)
    logits = torch.zeros(1, 3)
    torch.testing.assert_close(adjusted(logits, (3, 1, 0), 0.0), logits)


def test_balanced_classes_are_refused_and_would_be_cross_entropy():
    with pytest.raises(NoEffect, match="equally frequent"):
        LogitAdjustment().prepare(tiny_run())
    logits, y = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.eye(2)[[0, 1, 0, 1]]
    torch.testing.assert_close(soft_cross_entropy(logits + math.log(0.5), y), soft_cross_entropy(logits, y))
