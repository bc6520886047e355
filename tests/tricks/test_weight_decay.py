from functools import partial

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.training.session import baseline_optimizer
from harness.tricks import registry
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.core.weight_decay import WeightDecay
from harness.tricks.optimization.no_bias_decay import NoBiasDecay
from harness.tricks.stack import Stack


class TestWeightDecay(TrickConformance):
    trick = WeightDecay


def optimizer_for(trick, make, run=None):
    """A weight of three numbers and its optimizer, wrapped by the trick."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    run = run or tiny_run()
    optimizer = make(trick.param_groups([{"params": [weight]}], run))
    return weight, trick.wrap_optimizer(optimizer, run)


def trajectory(trick, make, steps=5):
    weight, optimizer = optimizer_for(trick, make)
    for t in range(steps):
        weight.grad = torch.tensor([0.3, 0.1 * t, -1.0])
        optimizer.step()
    return weight.detach()


def undecayed(make):
    return trajectory(WeightDecay(wd=1e-12), make)


def test_what_the_optimizer_does_anyway_is_refused():
    def wrap(wd, mode, kind, **own):
        weight = torch.nn.Parameter(torch.ones(1))
        trick = WeightDecay(wd=wd, mode=mode)
        trick.wrap_optimizer(kind(trick.param_groups([{"params": [weight]}], tiny_run()), lr=0.1, **own), tiny_run())

    for mode, kind in (("coupled", torch.optim.SGD), ("coupled", torch.optim.Adam), ("decoupled", torch.optim.AdamW)):
        with pytest.raises(NoEffect, match=f"wd = 0.05, {mode}"):
            wrap(0.05, mode, kind, weight_decay=0.05)
        wrap(0.04, mode, kind, weight_decay=0.05)
        other = "coupled" if mode == "decoupled" else "decoupled"
        wrap(0.05, other, kind, weight_decay=0.05)
        with pytest.raises(NoEffect):
            wrap(0.0, other, kind, weight_decay=0.0)


def trajectory_of(kind, steps=5):
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = kind([weight], lr=0.1, weight_decay=0.05)
    for t in range(steps):
        weight.grad = torch.tensor([0.3, 0.1 * t, -1.0])
        optimizer.step()
    return weight.detach()


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.1)


def adam(groups):
    return torch.optim.Adam(groups, lr=0.1, fused=True)


def adamw(groups):
    return torch.optim.AdamW(groups, lr=0.1, fused=True)


@pytest.mark.parametrize("make", [sgd, adam, adamw])
def test_a_step_without_gradient_shrinks_decoupled_weights_by_one_minus_lr_wd(make):
    weight, optimizer = optimizer_for(WeightDecay(wd=0.05, mode="decoupled"), make)
    weight.grad = torch.zeros(3)
    optimizer.step()

    torch.testing.assert_close(weight.detach(), torch.tensor([1.0, -2.0, 3.0]) * (1 - 0.1 * 0.05))


def test_modes_agree_for_plain_sgd():
    modes = [trajectory(WeightDecay(wd=0.05, mode=mode), sgd) for mode in ("coupled", "decoupled")]

    torch.testing.assert_close(*modes)
    assert not torch.allclose(modes[0], undecayed(sgd))


def test_modes_differ_for_adam_and_match_torchs_two_optimizers():
    coupled = trajectory(WeightDecay(wd=0.05, mode="coupled"), adamw)
    decoupled = trajectory(WeightDecay(wd=0.05, mode="decoupled"), adam)

    assert not torch.allclose(coupled, decoupled)
    torch.testing.assert_close(coupled, trajectory_of(torch.optim.Adam))
    torch.testing.assert_close(decoupled, trajectory_of(torch.optim.AdamW))


def test_decoupled_follows_the_learning_rate_and_leaves_momentum_alone():
    """By hand: w = 1 (1 - 0.5 * 0.2) - 0.5 * 1 = 0.4, then at a tenth of the rate 0.4 * 0.99 - 0.05 * 1.9."""
    trick, run = WeightDecay(wd=0.2, mode="decoupled"), tiny_run()
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    make = trick.param_groups([{"params": [weight]}], run)
    optimizer = trick.wrap_optimizer(torch.optim.SGD(make, lr=0.5, momentum=0.9), run)
    weight.grad = torch.ones(1)
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(0.4)
    optimizer.param_groups[0]["lr"] = 0.05
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(0.4 * 0.99 - 0.05 * 1.9)


def test_replaces_the_recipes_value_and_respects_exemptions():
    run = tiny_run(weight_decay=0.3)
    stack = Stack([WeightDecay(wd=0.01), NoBiasDecay()])
    groups = stack.fold("param_groups", [{"params": list(run.model.parameters())}], run)
    optimizer = stack.fold("wrap_optimizer", baseline_optimizer(groups, run), run)

    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0]


@pytest.mark.parametrize("fused", [False, True])
def test_a_skipped_update_does_not_shrink(fused):
    weight, optimizer = optimizer_for(
        WeightDecay(wd=0.5, mode="decoupled"), lambda groups: torch.optim.SGD(groups, lr=0.1, fused=fused)
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for factor, expected in ((torch.inf, [1.0, -2.0, 3.0]), (0.0, [0.95, -1.9, 2.85])):
        optimizer.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        torch.testing.assert_close(weight.detach(), torch.tensor(expected))


@pytest.mark.parametrize("make", [sgd, adam, adamw])
def test_by_default_only_the_amount_changes(make):
    """AdamW stays AdamW and Adam stays Adam, whose steps with the amount as their own these are."""
    ours = trajectory(WeightDecay(wd=0.05), make)
    kind = {sgd: torch.optim.SGD, adam: torch.optim.Adam, adamw: torch.optim.AdamW}[make]

    torch.testing.assert_close(ours, trajectory_of(kind))
    with pytest.raises(NoEffect, match=r"wd = 0\.05, own"):
        optimizer_for(WeightDecay(wd=0.05), partial(kind, lr=0.1, weight_decay=0.05))


@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
@pytest.mark.parametrize("name", ["lion", "adan", "muon", "lamb", "lars", "schedule_free"])
def test_an_optimizer_with_decay_in_its_own_way_takes_the_amount_and_refuses_another_mode(name, mode):
    trick, run = registry.make(name), tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)

    def build(decay):
        groups = decay.param_groups([{"params": list(run.model.parameters())}], run)
        return decay.wrap_optimizer(trick.optimizer(groups, run), run)

    assert {group["weight_decay"] for group in build(WeightDecay(wd=0.003)).param_groups} == {0.003}
    if trick.decay == mode:
        assert {group["weight_decay"] for group in build(WeightDecay(wd=0.003, mode=mode)).param_groups} == {0.003}
    else:
        with pytest.raises(NotApplicable, match=f"mode = {mode}: .* in its own way"):
            build(WeightDecay(wd=0.003, mode=mode))
