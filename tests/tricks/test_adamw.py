import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.training.session import baseline_optimizer
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.optimization.adamw import Adamw


class TestAdamw(TrickConformance):
    trick = Adamw


def build(trick, groups):
    run = tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)
    return trick.optimizer(groups, run)


def test_a_step_without_gradient_shrinks_by_one_minus_lr_wd():
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = build(Adamw(lr=0.1, weight_decay=0.3), [{"params": [weight]}])
    weight.grad = torch.zeros(1)
    optimizer.step()

    assert float(weight.detach()) == pytest.approx(2.0 * (1 - 0.03))


def test_two_steps_by_hand():
    """Both betas one half: the first step is lr sign(g), the second has bias correction 3/4."""
    weight = torch.nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    optimizer = build(Adamw(lr=0.1, weight_decay=0.0, beta1=0.5, beta2=0.5), [{"params": [weight]}])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(-0.1)

    weight.grad = torch.full_like(weight, 3.0)
    optimizer.step()
    m = (0.25 * 1 + 0.5 * 3) / 0.75
    v = (0.25 * 1 + 0.5 * 9) / 0.75
    assert float(weight.detach()) == pytest.approx(-0.1 - 0.1 * m / v**0.5)


def test_without_decay_it_is_adam():
    weights = [torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2)]
    ours = build(Adamw(lr=0.01, weight_decay=0.0), [{"params": [weights[0]]}])
    optimizers = [ours, torch.optim.Adam([weights[1]], lr=0.01)]
    for t in range(5):
        for weight, optimizer in zip(weights, optimizers, strict=True):
            weight.grad = torch.tensor([0.5, 0.1 * t])
            optimizer.step()

    torch.testing.assert_close(*weights)


def test_equals_the_recipes_own_adamw_bit_by_bit():
    losses = []
    for trick in (Adamw(lr=0.02, weight_decay=0.1), None):
        run, batch = tiny_run(optimizer="sgd" if trick else "adamw", lr=0.02, weight_decay=0.1), tiny_batch()
        groups = [{"params": list(run.model.parameters())}]
        optimizer = trick.optimizer(groups, run) if trick else baseline_optimizer(groups, run)
        for _ in range(3):
            optimizer.zero_grad()
            loss = soft_cross_entropy(run.model(batch.x), batch.y).mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())

    assert torch.equal(*losses)


def test_keys_of_a_group_win():
    own = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5, "weight_decay": 0.0}]
    own.append({"params": [torch.nn.Parameter(torch.zeros(1))]})
    groups = build(Adamw(lr=0.1, weight_decay=0.3), own).param_groups

    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.5, 0.0), (0.1, 0.3)]
