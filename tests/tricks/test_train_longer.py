from pathlib import Path

import pytest

from harness.testing import TrickConformance, tiny_run, tiny_spec
from harness.tricks.contract import NoEffect
from harness.tricks.optimization.train_longer import TrainLonger


class TestTrainLonger(TrickConformance):
    trick = TrainLonger


@pytest.mark.parametrize(("factor", "epochs"), [(0.5, 5), (2.0, 20), (1.26, 13), (0.001, 1)])
def test_epochs_by_hand_and_nothing_else(factor, epochs):
    run = tiny_run(epochs=10)
    changed = TrainLonger(factor=factor).recipe(run.recipe, run.data)
    assert changed == run.recipe.model_copy(update={"epochs": epochs})


def test_schedule_is_stretched():
    """lr(t k, T k) = lr(t, T), for the rates that reach the optimizer."""
    from harness.training.place import Place
    from harness.training.session import set_up

    place = Place(data_root=Path("unused-by-digits"))
    for schedule in ("cosine", "step"):
        short = set_up(tiny_spec(schedule=schedule), place).lr_factors
        long = set_up(tiny_spec(TrainLonger(factor=3.0), schedule=schedule), place).lr_factors
        assert len(long) == 3 * len(short)
        assert long[::3] == pytest.approx(short)


def test_a_factor_that_changes_nothing_is_refused():
    run = tiny_run(epochs=10)
    for factor in (1.0, 1.04):
        with pytest.raises(NoEffect, match="10 epochs as they are"):
            TrainLonger(factor=factor).recipe(run.recipe, run.data)
