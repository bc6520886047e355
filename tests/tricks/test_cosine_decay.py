from pathlib import Path

import pytest
import torch

from harness.testing import TrickConformance, tiny_run, tiny_spec
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.contract import NoEffect
from harness.tricks.core.cosine_decay import CosineDecay

NOWHERE = Place(data_root=Path("unused-by-digits"))


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
    with pytest.raises(NoEffect, match="cosine_decay leaves the learning rate as it is"):
        set_up(tiny_spec(CosineDecay(), schedule="cosine"), NOWHERE)
    set_up(tiny_spec(CosineDecay(final=0.1), schedule="cosine"), NOWHERE)
