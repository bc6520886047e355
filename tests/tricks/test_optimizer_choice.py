import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.optimization.optimizer_choice import OptimizerChoice

KINDS = ["sgd", "rmsprop", "nadam", "radam", "adagrad"]


class TestOptimizerChoice(TrickConformance):
    trick = OptimizerChoice


class TestSgd(TrickConformance):
    trick = OptimizerChoice
    params = {"kind": "sgd"}  # noqa: RUF012


def build(trick, groups, **recipe):
    run = tiny_run(**recipe)
    run.recipe = trick.recipe(run.recipe, run.data)
    return trick.optimizer(groups, run)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sgd", [-0.2, -0.2 - 0.1 * (0.9 * 2 + 3)]),
        ("rmsprop", [-1.0, -1.0 - 0.1 * 3 / (0.99 * 0.04 + 0.01 * 9) ** 0.5]),
        ("adagrad", [-0.1, -0.1 - 0.1 * 3 / 13**0.5]),
        # Too few updates to know the variance: the bias-corrected mean of the gradients alone.
        ("radam", [-0.2, -0.2 - 0.1 * (0.9 * 0.1 * 2 + 0.1 * 3) / 0.19]),
    ],
)
def test_two_steps_by_hand(kind, expected):
    """Gradients 2 and 3, rate 0.1."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = build(OptimizerChoice(kind=kind, lr=0.1), [{"params": [weight]}], momentum=0.9)
    out = []
    for g in (2.0, 3.0):
        weight.grad = torch.full_like(weight, g)
        optimizer.step()
        out.append(float(weight.detach()))
    assert out == pytest.approx(expected, rel=1e-6)


def test_nadam_looks_ahead_by_hand():
    """Dozat's first step: momenta u_t = 0.9 (1 - 0.96^(0.004 t) / 2) weigh the new gradient and the mean."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = build(OptimizerChoice(lr=0.1), [{"params": [weight]}])
    weight.grad = torch.full_like(weight, 2.0)
    optimizer.step()
    u = [0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in (1, 2)]
    mean = u[1] * (0.1 * 2) / (1 - u[0] * u[1]) + (1 - u[0]) * 2 / (1 - u[0])
    assert float(weight.detach()) == pytest.approx(-0.1 * mean / 2, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_rates_and_decays_reach_the_optimizer_and_a_group_keeps_its_own(kind):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5, "weight_decay": 0.0}]
    groups.append({"params": [torch.nn.Parameter(torch.zeros(1))]})
    own, other = build(OptimizerChoice(kind=kind, lr=0.3), groups, weight_decay=0.01).param_groups
    assert [(g["lr"], g["weight_decay"]) for g in (own, other)] == [(0.5, 0.0), (0.3, 0.01)]


def test_default_rates():
    rates = {kind: OptimizerChoice(kind=kind).recipe(tiny_run(lr=0.7).recipe, tiny_run().data).lr for kind in KINDS}
    assert rates == {"sgd": 0.7, "rmsprop": 1e-3, "nadam": 2e-3, "radam": 1e-3, "adagrad": 1e-2}


def test_the_recipes_own_optimizer_is_refused():
    run = tiny_run(nesterov=False)
    with pytest.raises(NoEffect, match="already"):
        OptimizerChoice(kind="sgd").recipe(run.recipe, run.data)
    assert OptimizerChoice(kind="sgd", lr=0.2).recipe(run.recipe, run.data).lr == 0.2


@pytest.mark.parametrize(
    ("kind", "lr", "tenth"), [("nadam", None, 2e-4), ("nadam", 0.03, 3e-3), ("sgd", None, None), ("sgd", 0.03, 3e-3)]
)
def test_a_tenth_of_the_rate_is_that_of_the_default_where_none_is_given(kind, lr, tenth):
    assert OptimizerChoice(kind=kind, lr=lr).at_rate(0.1).lr == tenth
