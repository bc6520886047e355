from dataclasses import replace

import pytest
import torch

from draws import assert_beta, assert_share, assert_uniform, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.mixing import mix_switch as module
from harness.tricks.mixing.mix_switch import MixSwitch


class TestMixSwitch(TrickConformance):
    trick = MixSwitch


@pytest.mark.parametrize(
    ("params", "alphas", "prob", "cuts"),
    [
        ({}, (0.8, 1.0), 1.0, 0.5),
        ({"mixup_alpha": 0.2, "cutmix_alpha": 0.5, "prob": 0.7, "switch_prob": 0.3}, (0.2, 0.5), 0.7, 0.3),
    ],
)
def test_which_of_both_and_how_much_is_drawn_for_each_batch(params, alphas, prob, cuts, monkeypatch):
    mixed, boxes = recorded(monkeypatch, module, "mixup"), recorded(monkeypatch, module, "box")
    run, batch = tiny_run(), tiny_batch(2)
    acted = [MixSwitch(**params).batch(batch, run) is not batch for _ in range(3000)]

    assert_share(acted, prob)
    assert len(mixed) + len(boxes) == sum(acted)
    assert_share([True] * len(boxes) + [False] * len(mixed), cuts)
    assert_beta([weight for _, _, weight in mixed], alphas[0])
    assert_beta([keep for _, keep, _, _ in boxes], alphas[1])
    for place in (2, 3):
        spread = torch.rand(len(boxes), generator=torch.Generator().manual_seed(0))
        assert_uniform(torch.tensor([call[place] for call in boxes]) + spread, 0, 8)


@pytest.mark.parametrize(("switch", "blends"), [(0.0, True), (1.0, False)])
def test_targets_follow_the_pixels(switch, blends):
    """Image i is constant i / 8. A blend has values in between, a cut has not; both keep the mean of the batch."""
    run, batch = tiny_run(), tiny_batch(8)
    batch = replace(batch, x=(torch.arange(8.0) / 8).view(-1, 1, 1, 1).expand(8, 1, 8, 8))
    trick = MixSwitch(switch_prob=switch)
    for _ in range(20):
        out = trick.batch(batch, run)
        assert bool((out.x * 8 == (out.x * 8).round()).all()) != blends
        torch.testing.assert_close(out.y @ (torch.arange(10.0) / 8), out.x.mean((1, 2, 3)))


@pytest.mark.parametrize(("off", "progress", "mixes"), [(0.0, 0.99, True), (0.2, 0.79, True), (0.2, 0.8, False)])
def test_the_end_of_training_is_not_mixed(off, progress, mixes):
    run, batch = tiny_run(), tiny_batch(8)
    run.steps_per_epoch, run.step = 10, round(progress * 100)
    assert (MixSwitch(off=off).batch(batch, run) is not batch) == mixes


def test_switching_off_shifts_no_draw():
    first, second = tiny_run(), tiny_run()
    for run, off in ((first, 0.0), (second, 1.0)):
        MixSwitch(off=off).batch(tiny_batch(8), run)
    assert first.numpy("mix_switch").random() == second.numpy("mix_switch").random()
