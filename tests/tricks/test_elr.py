import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.losses.elr import Elr, agreement


class TestElr(TrickConformance):
    trick = Elr


def logits_of(p, n=8):
    return torch.tensor([p, 1 - p]).log().repeat(n, 1)


def run_of_two(trick):
    from harness.testing import tiny_info

    run = tiny_run(info=tiny_info(classes=2))
    trick.prepare(run)
    return run


def test_by_hand():
    assert float(agreement(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.8, 0.0]]))) == pytest.approx(math.log(0.6))


def test_averages_follow_the_closed_form_once_a_step():
    trick = Elr(beta=0.7, lam=2.0)
    run, batch = run_of_two(trick), tiny_batch(classes=2)
    for visit in range(1, 4):
        run.again = False
        term = trick.loss_terms(batch, logits_of(0.9), run)["agreement"]
        run.again = True  # a second pass of the step compares, and moves nothing
        assert torch.equal(trick.loss_terms(batch, logits_of(0.9), run)["agreement"], term)
        share = 1 - 0.7**visit
        expected = torch.tensor([0.9, 0.1]) * share
        torch.testing.assert_close(run.state["elr"]["average"][:8], expected.expand(8, 2))
        assert float(term) == pytest.approx(2 * math.log(1 - share * (0.81 + 0.01)), rel=1e-4)
    assert not run.state["elr"]["average"][8:].any()  # images that no batch had


def test_averages_belong_to_indices_and_have_no_gradient():
    trick = Elr()
    run, batch = run_of_two(trick), tiny_batch(classes=2)
    run.state["elr"]["average"][3] = torch.tensor([1.0, 0.0])
    logits = torch.zeros(8, 2, requires_grad=True)
    run.again = True
    trick.loss_terms(batch, logits, run)["agreement"].backward()
    assert logits.grad[3, 0] < 0 < logits.grad[3, 1]  # a step down raises the class of the average
    assert not logits.grad[[0, 1, 2, 4]].any()
    assert not run.state["elr"]["average"].requires_grad
