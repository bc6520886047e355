import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.core.cosine_decay import CosineDecay


class TestCosineDecay(TrickConformance):
    trick = CosineDecay


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_starts_at_the_peak_passes_the_middle_and_ends_at_the_final_rate(final):
    schedule = CosineDecay(final=final).schedule(tiny_run())

    assert schedule(0.0) == pytest.approx(1.0)
    assert schedule(0.5) == pytest.approx((1 + final) / 2)
    assert schedule(1.0) == pytest.approx(final)


def test_mean_rate_of_a_run_is_the_midpoint():
    schedule = CosineDecay(final=0.2).schedule(tiny_run())

    assert sum(schedule((t + 0.5) / 1000) for t in range(1000)) / 1000 == pytest.approx(0.6)


def test_agrees_with_torch():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.05)
    schedule = CosineDecay(final=0.05).schedule(tiny_run())

    for t in range(50):
        assert schedule(t / 50) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        oracle.step()


def test_refuses_a_recipe_that_has_this_schedule():
    run = tiny_run(schedule="cosine")

    with pytest.raises(NoEffect, match="schedule"):
        CosineDecay().schedule(run)
    assert CosineDecay(final=0.1).schedule(run)(1.0) == pytest.approx(0.1)
