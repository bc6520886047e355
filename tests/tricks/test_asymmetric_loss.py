import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.asymmetric_loss import AsymmetricLoss, multi_label, single_label


class TestAsymmetricLoss(TrickConformance):
    trick = AsymmetricLoss


class TestSigmoid(TrickConformance):
    trick = AsymmetricLoss
    params = {"head": "sigmoid"}  # noqa: RUF012


def drawn():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    return logits, torch.eye(4)[torch.arange(6) % 4]


@pytest.mark.parametrize(("positive", "negative", "eps"), [(1.0, 4.0, 0.1), (0.0, 4.0, 0.1), (2.0, 1.0, 0.3)])
def test_equals_timm_for_one_label(positive, negative, eps):
    from timm.loss import AsymmetricLossSingleLabel

    logits, y = drawn()
    theirs = AsymmetricLossSingleLabel(positive, negative, eps, reduction="none")(logits, y.argmax(-1))
    torch.testing.assert_close(single_label(logits, y, positive, negative, eps), theirs, rtol=1e-5, atol=1e-6)


def test_no_focus_is_cross_entropy_or_logistic_loss_and_the_first_is_refused():
    logits, y = drawn()
    torch.testing.assert_close(single_label(logits, y, 0.0, 0.0, 0.0), soft_cross_entropy(logits, y))
    logistic = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none").sum(-1)
    torch.testing.assert_close(multi_label(logits, y, 0.0, 0.0, 0.0), logistic)
    with pytest.raises(NoEffect, match="no loss"):
        AsymmetricLoss(eps=0.0, gamma_pos=0.0).prepare(tiny_run())


def test_the_margin_spares_improbable_classes_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # s = 1/2, 3/4
    loss = AsymmetricLoss(head="sigmoid", gamma_pos=1.0, gamma_neg=2.0, margin=0.25)
    found = loss.criterion(logits, torch.tensor([[1.0, 0.0]]), tiny_run())

    torch.testing.assert_close(found, torch.tensor([0.5 * math.log(2.0) + 0.25 * math.log(2.0)]))  # m = 1/2
    easy = multi_label(torch.tensor([[-5.0]]), torch.tensor([[0.0]]), 0.0, 4.0, 0.05)
    assert float(easy) == pytest.approx(0.0, abs=1e-12)
