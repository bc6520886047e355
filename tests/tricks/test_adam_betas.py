import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.adam_betas import AdamBetas


class TestAdamBetas(TrickConformance):
    trick = AdamBetas


def trace(trick, gradients):
    run = tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)
    weight = torch.nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    optimizer = trick.optimizer([{"params": [weight]}], run)
    out = []
    for g in gradients:
        weight.grad = torch.full_like(weight, g)
        optimizer.step()
        out.append(float(weight.detach()))
    return out


def test_two_steps_by_hand():
    """The default betas: bias corrections are 1 - 0.49 and 1 - 0.9801 at the second step."""
    m = (0.3 * 0.7 * 1 + 0.3 * 3) / 0.51
    v = (0.01 * 0.99 * 1 + 0.01 * 9) / 0.0199
    assert trace(AdamBetas(lr=0.1, weight_decay=0.0), [1.0, 3.0]) == pytest.approx([-0.1, -0.1 - 0.1 * m / v**0.5])


def test_without_memory_of_gradients_it_is_rmsprop_with_bias_correction():
    gradients = [1.0, -0.3, 2.0, 0.5]
    w, v, expected = 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        v = 0.99 * v + 0.01 * g**2
        w -= 0.1 * g / ((v / (1 - 0.99**t)) ** 0.5 + 1e-8)
        expected.append(w)
    assert trace(AdamBetas(lr=0.1, weight_decay=0.0, beta1=0.0), gradients) == pytest.approx(expected)


def test_forgets_a_spike_sooner_than_the_usual_betas():
    gradients = [100.0] + [1.0] * 300
    short, long = (trace(AdamBetas(lr=0.1, weight_decay=0.0, **b), gradients) for b in ({}, {"beta2": 0.999}))
    assert short[-2] - short[-1] > 2 * (long[-2] - long[-1])


def test_the_rate_and_the_decay_reach_the_optimizer():
    trick, run = AdamBetas(lr=0.02, weight_decay=0.3), tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)
    (group,) = trick.optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}], run).param_groups
    assert (run.recipe.lr, group["lr"], group["weight_decay"]) == (0.02, 0.02, 0.3)
    assert group["betas"] == (0.7, 0.99)
