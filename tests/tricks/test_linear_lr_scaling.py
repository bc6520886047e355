import pytest

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.core.batch_size import BatchSize
from harness.tricks.core.linear_lr_scaling import LinearLrScaling
from harness.tricks.optimization.adamw import Adamw
from harness.tricks.stack import Stack


class TestLinearLrScaling(TrickConformance):
    trick = LinearLrScaling


@pytest.mark.parametrize(
    ("rule", "batch", "expected"), [("linear", 512, 0.2), ("linear", 64, 0.025), ("sqrt", 64, 0.05)]
)
def test_rate_by_hand(rule, batch, expected):
    recipe = tiny_run(lr=0.1, batch_size=batch).recipe

    assert LinearLrScaling(rule=rule).recipe(recipe, tiny_info()).lr == pytest.approx(expected)


def test_sees_the_batch_size_that_another_trick_set():
    recipe = tiny_run(lr=0.1, batch_size=16).recipe
    stack = Stack([LinearLrScaling(reference=16), BatchSize(size=64)])

    assert stack.fold("recipe", recipe, tiny_info()).lr == pytest.approx(0.4)


def test_scales_the_rate_of_an_optimizer_trick():
    run = tiny_run(batch_size=64)
    stack = Stack([LinearLrScaling(rule="sqrt", reference=16), Adamw(lr=1e-3)])
    run.recipe = stack.fold("recipe", run.recipe, run.data)
    build = stack.slot("optimizer", lambda groups, run: None)
    optimizer = build([{"params": list(run.model.parameters())}], run)

    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3)


def test_refuses_the_reference_itself():
    with pytest.raises(NoEffect, match="8"):
        LinearLrScaling(reference=8).recipe(tiny_run(batch_size=8).recipe, tiny_info())
