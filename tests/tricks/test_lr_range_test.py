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
from harness.tricks.optimization.lr_range_test import LrRangeTest, judged, propose, sweep
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


def test_rates_are_geometric_and_stop_before_the_highest():
    rates = sweep(1e-7, 10.0, 100)
    assert len(rates) == 100
    assert rates[0] == 1e-7
    assert rates[50] == pytest.approx(1e-3)
    assert {round(b / a, 9) for a, b in itertools.pairwise([*rates, 10.0])} == {round(1e8**0.01, 9)}


CURVE = [5.0, 4.9, 4.8, 4.4, 3.0, 2.0, 1.0, 1.5, 6.0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("minimum", 7.0 / 10),  # the least, 1.0, is at 7
        ("steep", 4.0),  # from 4.4 at 4 to 3.0 at 5, the first fall of 1.4
        ("valley", 3.0),  # 7 long and ending at position 6: -1 + 2 + 1 = position 2
    ],
)
def test_rules_by_hand(rule, expected):
    assert propose([float(i) for i in range(1, 10)], CURVE, rule) == pytest.approx(expected)


def test_valley_counts_the_falls_and_not_the_bumps_between():
    """Falls 5, 4, 2, 1 end at position 6 and are 4 long: 6 - 4 + 1 + 0 = position 3, though they span 1 to 6."""
    losses = [3.0, 5.0, 4.0, 4.5, 2.0, 2.2, 1.0, 9.0]
    assert propose([float(i) for i in range(8)], losses, "valley") == 3.0
    bumps = [9.0, 8.0, 7.0, 8.5, 8.4, 8.3, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]  # of 10, the last at 11: 11 - 10 + 3 + 1
    assert propose([float(i) for i in range(12)], bumps, "valley") == 5.0
    assert propose([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], "valley") == 1.0  # nothing falls


def test_of_two_longest_falls_the_first_is_the_valley():
    """Both 3 long; the first ends at position 2: 2 - 3 + 1 + 0 = 0."""
    assert propose([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [9.0, 8.0, 7.0, 12.0, 11.0, 10.0], "valley") == 0.0


def test_slide_goes_back_while_the_slopes_at_its_edges_differ():
    """Flat up to position 20, then up by 1 each: slopes are 0 to 19, 0.5 at 20, 1 beyond.

    The window's left edge goes back from 14 while its right one, 15 further, is at 20 or beyond: to 5.
    """
    losses = [1.0] * 20 + [1.0 + i for i in range(10)]
    lrs = [float(i) for i in range(30)]
    assert propose(lrs, losses, "slide") == 5.0
    assert propose(lrs, [1.0] * 30, "slide") == 14.0  # nothing differs
    assert propose(lrs[:16], losses[-16:], "slide") == 0.0
    with pytest.raises(NotApplicable, match="needs 16 losses, and the sweep left 15"):
        propose(lrs[:15], losses[-15:], "slide")


def test_what_is_judged_leaves_out_the_first_tenth_and_the_last_five_or_what_is_no_number():
    losses = [float(i) for i in range(100)]
    assert losses[judged(losses, 100)] == losses[10:95]
    assert losses[:60][judged(losses[:60], 100)] == losses[10:55]
    assert [*losses[:60], float("nan")][judged([*losses[:60], float("nan")], 100)] == losses[10:60]
    assert [*losses[:98], float("nan")][judged([*losses[:98], float("nan")], 100)] == losses[10:95]
    assert losses[:3][judged(losses[:3], 100)] == []


def test_the_sweep_is_training_at_those_rates_until_the_loss_leaves_bounds():
    """On the loss w^2 / 2 gradient descent is w (1 - lr), so every loss is known."""
    run = ready()
    weight = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    run.optimizer = torch.optim.SGD([weight], lr=0.1)
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    run.loss = lambda batch: weight.square().sum() / 2
    trick = LrRangeTest(low=1e-3, high=1e3, steps=99, smoothing=0.0)
    lrs, losses = trick._sweep(run)

    w, expected = 1.0, []
    for lr in sweep(1e-3, 1e3, 99):
        expected.append(w * w / 2)
        if expected[-1] > 4 * min(expected):
            break
        w *= 1 - lr
    assert losses == pytest.approx(expected)
    assert losses[-1] > 4 * min(losses) >= losses[-2]  # the loss that ends the test is kept
    assert len(lrs) == len(losses) < 99
    assert 2 < lrs[-2] < 4  # updates grow from lr = 2 / curvature on


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
    expected = propose(lrs[10:-5], losses[10:-5], "valley")
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


def test_losses_are_averaged_as_fastai_does():
    """Debiased running means at 0.5 of the losses 1, 3, 2: 1, (0.5 * 1 + 3) / 1.5, (0.25 * 1 + 0.5 * 3 + 2) / 1.75."""
    run, given = ready(), iter([1.0, 3.0, 2.0] * 10)
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    run.optimizer = torch.optim.SGD([weight], lr=0.1)
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    run.loss = lambda batch: weight.sum() * 0 + next(given)
    _, losses = LrRangeTest(smoothing=0.5, steps=20)._sweep(run)

    assert losses[:3] == pytest.approx([1.0, 3.5 / 1.5, 3.75 / 1.75])
    assert len(losses) == 20


def test_a_sweep_stops_at_a_loss_that_is_no_number():
    run, given = ready(), iter([1.0] * 12 + [float("nan")] * 8)
    weight = torch.nn.Parameter(torch.zeros(1))
    run.optimizer = torch.optim.SGD([weight], lr=0.1)
    run.optimizer.param_groups[0]["initial_lr"] = 0.1
    run.loss = lambda batch: weight.sum() * 0 + next(given)
    _, losses = LrRangeTest(smoothing=0.0, steps=20)._sweep(run)

    assert losses[:12] == [1.0] * 12
    assert len(losses) == 13
    assert judged(losses, 20) == slice(2, 12)


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


def test_the_mean_of_equal_losses_is_that_loss_from_the_first_on():
    """Divided by 1 - smoothing^n, a running mean that starts at zero is no lower than what it is the mean of."""
    run = ready()
    run.loss = lambda batch: 0 * run.model(batch.x).sum() + 3.0
    _, losses = LrRangeTest(low=1e-9, high=1e-8, steps=30, smoothing=0.9)._sweep(run)

    assert losses == pytest.approx([3.0] * 30)


def test_losses_weigh_less_the_longer_they_are_past():
    run, seen = ready(), iter([1.0, 2.0, 4.0] + [1.0] * 20)
    run.loss = lambda batch: 0 * run.model(batch.x).sum() + next(seen)
    _, losses = LrRangeTest(low=1e-9, high=1e-8, steps=20, smoothing=0.5)._sweep(run)

    assert losses[:3] == pytest.approx([1.0, (0.5 * 1 + 2) / 1.5, (0.25 * 1 + 0.5 * 2 + 4) / 1.75])
