import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.log_softmax_ce import LogSoftmaxCe, cross_entropy


class TestLogSoftmaxCe(TrickConformance):
    trick = LogSoftmaxCe


class TestLogOfSoftmax(TrickConformance):
    trick = LogSoftmaxCe
    params = {"form": "log_of_softmax"}  # noqa: RUF012


def test_double_softmax_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4, taken for logits
    loss = LogSoftmaxCe().criterion(logits, torch.tensor([[1.0, 0.0]]), tiny_run())

    torch.testing.assert_close(loss, torch.tensor([math.log(1 + math.exp(-0.5))]))


def test_naive_form_agrees_while_nothing_underflows():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 5, dtype=torch.float64, generator=g)
    y = torch.rand(16, 5, dtype=torch.float64, generator=g)
    y = y / y.sum(-1, keepdim=True)

    torch.testing.assert_close(cross_entropy(logits, y, "log_of_softmax"), soft_cross_entropy(logits, y))


def test_naive_form_breaks_where_the_right_one_holds():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    wrong, right = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])

    assert cross_entropy(logits, wrong, "log_softmax").item() == 400
    assert cross_entropy(logits, wrong, "log_of_softmax").item() == math.inf
    assert cross_entropy(logits, right, "log_of_softmax").item() == 0
    (gradient,) = torch.autograd.grad(cross_entropy(logits, right, "log_of_softmax").sum(), logits)
    assert gradient.isnan().any()


@pytest.mark.parametrize("k", [2, 10])
def test_double_softmax_cannot_fall_below_its_floor(k):
    logits = torch.zeros(1, k)
    logits[0, 0] = 1e4
    loss = cross_entropy(logits, torch.eye(k)[:1], "double_softmax")

    torch.testing.assert_close(loss, torch.tensor([math.log(1 + (k - 1) / math.e)]))


def test_the_right_form_is_refused():
    with pytest.raises(NoEffect, match="already"):
        LogSoftmaxCe(form="log_softmax").prepare(tiny_run())
