import copy
import itertools
from pathlib import Path

import pytest
import torch

from harness.testing import TrickConformance, tiny_run, tiny_spec
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.contract import NotApplicable
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.center_loss import CenterLoss
from harness.tricks.modules import FeatureTap
from harness.tricks.optimization.adabound import Bounded
from harness.tricks.optimization.lr_range_test import LrRangeTest, propose, sweep
from harness.tricks.probes import preserved

PLACE = Place(data_root=Path("unused-by-digits"))


class TestLrRangeTest(TrickConformance):
    trick = LrRangeTest


def ready(**recipe):
    run = tiny_run(**recipe)
    for group in run.optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    run.loss = lambda batch: soft_cross_entropy(run.model(batch.x), batch.y).mean()
    return run


def everything(run):
    """All that a later step of training depends on."""
    return copy.deepcopy(
        [
            run.model.state_dict(),
            run.optimizer.state_dict(),
            {name: g.get_state() for name, g in run.streams.items()},
            {name: g.bit_generator.state for name, g in run.numpy_streams.items()},
            {k: v for k, v in run.state.items() if k != "lr_range_test"},
            run.logged,
            [p.grad for p in run.model.parameters()],
        ]
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) if isinstance(a, FeatureTap) else bool(a == b)


def test_rates_are_geometric():
    rates = sweep(1e-7, 10.0, 100)
    assert (rates[0], rates[-1]) == pytest.approx((1e-7, 10.0))
    assert {round(b / a, 9) for a, b in itertools.pairwise(rates)} == {round(1e8 ** (1 / 99), 9)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("min_over_10", 7.0 / 10),  # the least, 1.0, is at 7
        ("steepest", 5.0),  # 4.4 at 4 to 2.0 at 6
        ("valley", 4.0),  # 5.0, 4.9, 4.8, 4.4, 3.0, 2.0, 1.0 at 1 to 7
    ],
)
def test_rules_by_hand(rule, expected):
    losses = [5.0, 4.9, 4.8, 4.4, 3.0, 2.0, 1.0, 1.5, 6.0]
    assert propose([float(i) for i in range(1, 10)], losses, rule) == pytest.approx(expected)


def test_valley_bridges_bumps():
    losses = [3.0, 5.0, 4.0, 4.5, 2.0, 2.2, 1.0, 9.0]  # falls 5, 4, 2, 1: from 1 to 6
    assert propose([float(i) for i in range(8)], losses, "valley") == 3.0


def test_the_sweep_is_training_at_those_rates_until_the_loss_leaves_bounds():
    """On the loss w^2 / 2 gradient descent is w (1 - lr), so every loss is known."""
    run = ready()
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    run.optimizer = torch.optim.SGD([weight], lr=0.1)
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    run.loss = lambda batch: weight.square().sum() / 2
    trick = LrRangeTest(low=1e-3, high=1e3, steps=100, smoothing=0.0)
    lrs, losses = trick._sweep(run)

    w, expected = 1.0, []
    for lr in sweep(1e-3, 1e3, 100):
        expected.append(w * w / 2)
        if expected[-1] > 4 * min(expected):
            break
        w *= 1 - lr
    assert losses == pytest.approx(expected[:-1])
    assert len(lrs) == len(losses) < 100
    assert 2 < lrs[-1] < 4  # updates grow from lr = 2 / curvature on


def test_proposal_becomes_the_peak_rate_and_ratios_stay():
    run = ready()
    head = list(run.model.head.parameters())
    rest = [p for p in run.model.parameters() if all(p is not q for q in head)]
    run.optimizer = torch.optim.SGD([{"params": rest, "lr": 0.1}, {"params": head, "lr": 0.01}])
    for group in run.optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    trick = LrRangeTest()
    with preserved(run):
        lrs, losses = trick._sweep(run)
    expected = propose(lrs[10:-5], losses[10:-5], "steepest")
    trick.prepare(run)
    first, second = (group["initial_lr"] for group in run.optimizer.param_groups)

    assert run.state[trick.name] == {"lr": first}
    assert (first, second) == pytest.approx((expected, expected / 10))
    assert 1e-7 < first < 10
    trick.epoch_end(run)
    total, count = run.logged["lr_range_test.lr"]
    assert (float(total), count) == (pytest.approx(first), 1)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "bounded"])
def test_everything_is_put_back_to_the_bit(optimizer):
    run, other = ready(), CenterLoss()
    run.model = other.model(run.model, run)

    def loss(batch):
        logits = run.model(batch.x)
        main = other.reduce_loss(soft_cross_entropy(logits, batch.y).mean(), run)
        return main + other.loss_terms(batch, logits, run)["center"]

    run.loss = loss
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "bounded": Bounded}[optimizer]
    extra = {"base_lr": 0.1, "final_lr": 0.1, "gamma": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.0, "eps": 1e-8}
    run.optimizer = make([{"params": list(run.model.parameters())}], lr=0.1, **(extra if make is Bounded else {}))
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    run.rng("other"), run.numpy("other")
    run.log("other", torch.ones(()))
    before = everything(run)
    with preserved(run):
        LrRangeTest(low=1e-3)._sweep(run)
        run.numpy("other").random()
        run.rng("new")
        assert not same(everything(run), before)
    assert same(everything(run), before)

    LrRangeTest().prepare(run)
    after = everything(run)
    after[1]["param_groups"][0]["initial_lr"] = 0.1  # the one thing that is meant to change
    assert same(after, before)


def test_a_run_goes_on_as_if_it_had_been_given_the_rate():
    spec = tiny_spec(LrRangeTest())
    tested, plain = set_up(spec, PLACE), set_up(tiny_spec(), PLACE)
    assert same(tested.run.model.state_dict(), plain.run.model.state_dict())
    assert tested.lr_factors == plain.lr_factors
    assert torch.equal(tested.loader.order.get_state(), plain.loader.order.get_state())
    assert torch.equal(tested.loader.augment_rng.get_state(), plain.loader.augment_rng.get_state())
    assert tested.run.optimizer.param_groups[0]["initial_lr"] == tested.run.state["lr_range_test"]["lr"] != 0.05


def test_a_sweep_that_diverges_at_once_is_refused():
    run = ready()
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    run.optimizer = torch.optim.SGD([weight], lr=0.1)
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    run.loss = lambda batch: weight.square().sum()
    with pytest.raises(NotApplicable, match="left all bounds"):
        LrRangeTest(low=100.0, high=1000.0).prepare(run)


def test_a_share_of_the_rate_that_was_found_is_used_and_a_whole_one_leaves_old_run_ids():
    rates = []
    for share in (1.0, 0.25):
        run = ready()
        LrRangeTest(share=share).prepare(run)
        rates.append(run.optimizer.param_groups[0]["initial_lr"])

    assert rates[1] == pytest.approx(0.25 * rates[0])
    assert "share" not in LrRangeTest().spec().params
    assert LrRangeTest().at_rate(0.1).share == 0.1
