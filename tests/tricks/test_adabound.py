import copy

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks import registry
from harness.tricks.optimization.adabound import Adabound, bounds
from harness.tricks.stack import Stack


class TestAdabound(TrickConformance):
    trick = Adabound


def build(trick, weights):
    run = tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)
    return trick.optimizer([{"params": weights}], run)


def pair():
    return [torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)) for _ in range(2)]


def gradients(steps=20):
    g = torch.Generator().manual_seed(0)
    return torch.randn(steps, 3, dtype=torch.float64, generator=g)


def test_bounds_by_hand_and_in_the_limit():
    assert bounds(0.1, 0.5, 2) == pytest.approx((0.05, 0.2))
    assert bounds(0.1, 1e-3, 10**9) == pytest.approx((0.1, 0.1), rel=1e-5)


def test_one_step_by_hand_clips_from_above_and_below():
    """The first step is the step size times m = g / 10."""
    for g, rate in ((4.0, 0.05), (0.004, 0.2), (1.0, 0.1)):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        # Adam's own step size is lr / ((1 - b1) |g|) = 0.1 / |g|; the bounds at t = 1 are 0.05 and 0.2.
        optimizer = build(Adabound(lr=0.01, final_lr=0.1, gamma=1.0, weight_decay=0.0), [weight])
        weight.grad = torch.full_like(weight, g)
        optimizer.step()
        assert float(weight.detach()) == pytest.approx(-rate * 0.1 * g, rel=1e-5)


def test_a_tiny_gamma_gives_adam_with_coupled_decay():
    ours, theirs = pair()
    optimizers = [
        build(Adabound(lr=0.01, gamma=1e-12, weight_decay=0.1), [ours]),
        torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1),
    ]
    for g in gradients():
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = g.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_a_huge_gamma_gives_sgd_with_averaged_gradients():
    ours, theirs = pair()
    trick = Adabound(lr=0.01, final_lr=0.3, gamma=1e12, weight_decay=0.1)
    optimizers = [
        build(trick, [ours]),
        torch.optim.SGD([theirs], lr=0.3, momentum=0.9, dampening=0.9, weight_decay=0.1),
    ]
    optimizers[1].state[theirs]["momentum_buffer"] = torch.zeros_like(theirs)  # torch's first step is undamped
    for g in gradients():
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = g.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_bounds_follow_the_schedule():
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = build(Adabound(lr=0.01, final_lr=0.3, gamma=1e12, weight_decay=0.0), [weight])
    optimizer.param_groups[0]["lr"] *= 0.5
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(-0.5 * 0.3 * 0.1)


def test_state_survives_a_checkpoint():
    ours, theirs = pair()
    first, second = (build(Adabound(gamma=0.1), [weight]) for weight in (ours, theirs))
    for i, g in enumerate(gradients()):
        ours.grad = g.clone()
        first.step()
        if i == 9:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
            theirs.data.copy_(ours.data)
        if i > 9:
            theirs.grad = g.clone()
            second.step()
    assert torch.equal(ours, theirs)


def test_weights_without_a_gradient_stay_and_keys_of_a_group_win():
    weights = pair()
    run, trick = tiny_run(), Adabound()
    optimizer = trick.optimizer(
        [{"params": [weights[0]], "lr": 0.5, "weight_decay": 0.0}, {"params": weights[1:]}], run
    )
    weights[0].grad = torch.ones_like(weights[0])
    optimizer.step()
    assert torch.equal(*[w.detach() for w in (weights[1], pair()[1])])
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, run.recipe.lr]


@pytest.mark.parametrize(
    ("other", "params", "factors"),
    [
        ("linear_lr_scaling", {"reference": 32}, [0.25]),
        ("discriminative_lr", {"d": 0.5}, [0.125, 0.25, 0.5, 1.0]),
    ],
)
def test_bounds_follow_tricks_that_change_the_rate(other, params, factors):
    """With a huge gamma the step size is the bound: final_lr times what became of the rate."""
    bounded = Adabound(lr=0.01, final_lr=0.3, gamma=1e12, weight_decay=0.0)
    run, stack = tiny_run(), Stack([bounded, registry.make(other, params)])
    run.recipe = stack.fold("recipe", run.recipe, run.data)
    groups = stack.fold("param_groups", [{"params": list(run.model.parameters())}], run)
    optimizer = stack.slot("optimizer", None)(groups, run)
    before = [g["params"][0].detach().clone() for g in optimizer.param_groups]
    for p in run.model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    after = [g["params"][0].detach() for g in optimizer.param_groups]
    moved = [float((old - new).flatten()[0]) for old, new in zip(before, after, strict=True)]

    assert moved == pytest.approx([0.3 * factor * 0.1 for factor in factors], rel=1e-4)
