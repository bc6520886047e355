import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.cyclical_lr import CyclicalLr


class TestCyclicalLr(TrickConformance):
    trick = CyclicalLr


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@pytest.mark.parametrize(("cycles", "total"), [(4, 80), (3, 60), (7, 98)])
def test_agrees_with_torch(mode, cycles, total):
    schedule = CyclicalLr(cycles=cycles, base=0.1, mode=mode, end=0.2).schedule(tiny_run())
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.CyclicLR(
        optimizer, 0.1, 1.0, total // cycles // 2, mode=mode, gamma=0.2 ** (1 / total), cycle_momentum=False
    )
    for t in range(total):
        assert schedule(t / total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-7), t
        optimizer.step()
        oracle.step()


def test_corners_by_hand():
    run = tiny_run()
    factors = [CyclicalLr(cycles=2, base=0.2).schedule(run)(p / 8) for p in range(8)]
    assert factors == pytest.approx([0.2, 0.6, 1.0, 0.6, 0.2, 0.6, 1.0, 0.6])
    halved = [CyclicalLr(cycles=2, base=0.2, mode="triangular2").schedule(run)(p / 8) for p in (2, 6)]
    assert halved == pytest.approx([1.0, 0.6])
    falling = CyclicalLr(cycles=1, base=0.0, mode="exp_range", end=0.25).schedule(run)
    assert falling(0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("cycles", [1, 3, 7])
def test_starts_and_ends_at_the_base_with_a_period_of_one_cycle(cycles):
    schedule = CyclicalLr(cycles=cycles, base=0.05).schedule(tiny_run())
    assert schedule(0.0) == pytest.approx(0.05)
    assert schedule(1 - 1e-6) == pytest.approx(0.05, abs=1e-4)
    for p in (0.01, 0.07, 0.1):
        assert schedule(p / cycles + 1 / cycles * (cycles - 1)) == pytest.approx(schedule(p / cycles))
