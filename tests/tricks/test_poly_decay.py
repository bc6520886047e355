import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import polynomial
from harness.tricks.optimization.linear_decay import LinearDecay
from harness.tricks.optimization.poly_decay import PolyDecay


class TestPolyDecay(TrickConformance):
    trick = PolyDecay


def test_by_hand():
    schedule = PolyDecay(power=2.0, final=0.2).schedule(tiny_run())

    assert [schedule(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.4, 0.2])


def test_power_one_is_linear():
    run = tiny_run()
    power, line = PolyDecay(power=1.0).schedule(run), LinearDecay().schedule(run)

    assert [power(t / 7) for t in range(7)] == pytest.approx([line(t / 7) for t in range(7)])


def test_agrees_with_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=40, power=0.9)
    schedule = PolyDecay().schedule(tiny_run())

    for t in range(40):
        assert schedule(t / 40) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()


def test_the_rate_falls_to_nothing_unless_an_end_is_given():
    assert polynomial(2.0)(1.0) == 0.0
    assert polynomial(2.0)(0.5) == 0.25
