import pytest
import torch
from pydantic import ValidationError

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.sgdr_warm_restarts import SgdrWarmRestarts


class TestSgdrWarmRestarts(TrickConformance):
    trick = SgdrWarmRestarts


@pytest.mark.parametrize(("cycle", "t_mult", "total"), [(10, 1, 40), (10, 2, 70), (5, 3, 65), (7, 2, 30)])
def test_agrees_with_torch(cycle, t_mult, total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, cycle, t_mult, eta_min=0.05)
    schedule = SgdrWarmRestarts(t0=cycle / total, t_mult=t_mult, final=0.05).schedule(tiny_run())

    for t in range(total):
        assert schedule(t / total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-7), t
        optimizer.step()
        oracle.step()


def test_default_periods_add_up_to_the_run():
    """1/7, 2/7 and 4/7: back at the peak where they start, near zero where they end."""
    schedule = SgdrWarmRestarts().schedule(tiny_run())

    assert [schedule(t / 7) for t in (0, 1, 3)] == pytest.approx([1.0, 1.0, 1.0])
    assert [schedule(t / 7 - 1e-4) for t in (1, 3, 7)] == pytest.approx([0.0] * 3, abs=1e-4)
    assert [schedule(t / 7) for t in (0.5, 2, 5)] == pytest.approx([0.5] * 3)


def test_one_period_is_the_plain_cosine():
    schedule = SgdrWarmRestarts(t0=1.0).schedule(tiny_run())

    assert [schedule(p) for p in (0.0, 0.5, 0.75)] == pytest.approx([1.0, 0.5, 0.5 - 0.5**1.5])


def test_cycles_stand_for_the_first_period_that_ends_them_with_the_training():
    """Three doubling cycles are 1/7, 2/7 and 4/7; five equal ones a fifth each."""
    run = tiny_run()
    points = [t / 70 for t in range(70)]

    for trick, same in [
        (SgdrWarmRestarts(cycles=3), SgdrWarmRestarts()),
        (SgdrWarmRestarts(cycles=5, t_mult=1), SgdrWarmRestarts(t0=0.2, t_mult=1)),
    ]:
        assert [trick.schedule(run)(p) for p in points] == [same.schedule(run)(p) for p in points]
    assert "cycles" not in SgdrWarmRestarts().spec().params, "runs from before the option keep their ids"
    with pytest.raises(ValidationError, match="leave one of them out"):
        SgdrWarmRestarts(t0=0.5, cycles=2)
