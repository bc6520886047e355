import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.adam import Adam


class TestAdam(TrickConformance):
    trick = Adam


def build(trick, groups):
    run = tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)
    return trick.optimizer(groups, run)


def trace(trick, gradients):
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = build(trick, [{"params": [weight]}])
    out = []
    for g in gradients:
        weight.grad = torch.full_like(weight, g)
        optimizer.step()
        out.append(float(weight.detach()))
    return out


def test_first_step_is_the_rate_in_the_gradients_direction():
    assert trace(Adam(lr=0.1, weight_decay=0.0), [0.003]) == pytest.approx([0.9], abs=1e-6)
    assert trace(Adam(lr=0.1, weight_decay=0.0), [-70.0]) == pytest.approx([1.1], abs=1e-6)


def test_two_steps_by_hand():
    """beta1 = 1/2, beta2 = 3/4: bias corrections are 3/4 and 7/16 at the second step."""
    m = (0.25 * 1 + 0.5 * 3) / 0.75
    v = (0.75 * 0.25 * 1 + 0.25 * 9) / (7 / 16)
    expected = [0.9, 0.9 - 0.1 * m / v**0.5]
    assert trace(Adam(lr=0.1, weight_decay=0.0, beta1=0.5, beta2=0.75), [1.0, 3.0]) == pytest.approx(expected)


def test_scale_of_the_loss_does_not_matter():
    gradients = [1.0, -0.3, 2.0, 0.5]
    small, large = (trace(Adam(weight_decay=0.0), [s * g for g in gradients]) for s in (1.0, 1000.0))
    assert small == pytest.approx(large, abs=1e-8)


def test_decay_is_coupled():
    """A zero gradient leaves the decay alone in it, so the first step is a whole one towards zero."""
    assert trace(Adam(lr=0.1, weight_decay=0.01), [0.0]) == pytest.approx([0.9], abs=1e-6)
    decayed = trace(Adam(lr=0.1, weight_decay=0.5), [1.0])
    assert decayed == pytest.approx(trace(Adam(lr=0.1, weight_decay=0.0), [1.5]))


def test_keys_of_a_group_win():
    own = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5, "weight_decay": 0.0}]
    own.append({"params": [torch.nn.Parameter(torch.zeros(1))]})
    groups = build(Adam(lr=0.1, weight_decay=0.3), own).param_groups

    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.5, 0.0), (0.1, 0.3)]
