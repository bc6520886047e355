import math

import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.kaiming_init import KaimingInit, fan, rescale
from harness.tricks.contract import NoEffect


class TestKaimingInit(TrickConformance):
    trick = KaimingInit


def test_fans_by_hand():
    conv, grouped, linear = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3, groups=2), nn.Linear(5, 7)
    assert (fan(conv.weight, 1, "fan_in"), fan(conv.weight, 1, "fan_out")) == (36, 72)
    assert (fan(grouped.weight, 2, "fan_in"), fan(grouped.weight, 2, "fan_out")) == (18, 36)
    assert (fan(linear.weight, 1, "fan_in"), fan(linear.weight, 1, "fan_out")) == (5, 7)


def test_rescale_by_hand():
    torch.testing.assert_close(rescale(torch.tensor([0.5, 2.0]), "normal", 0.1), torch.tensor([0.05, 0.2]))
    bound = math.sqrt(3) * 0.1  # a uniform law on ± sqrt(3) s has deviation s
    torch.testing.assert_close(rescale(torch.tensor([0.0, 1.0]), "uniform", 0.1), torch.tensor([-bound, bound]))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("dist", ["normal", "uniform"])
def test_deviation_of_the_layers(mode, dist):
    run = tiny_run(width=32)
    KaimingInit(mode=mode, dist=dist, gain=1.5).init(run.model, run)
    weight = run.model.net.stage2[0].conv1.weight  # 32 to 64 channels
    std = 1.5 / math.sqrt(9 * (32 if mode == "fan_in" else 64))

    assert abs(weight.std() / std - 1) < 0.03
    assert abs(weight.mean()) < 5 * std / weight.numel() ** 0.5
    if dist == "uniform":
        assert weight.abs().max() <= math.sqrt(3) * std * 1.0001


def test_variance_is_constant_through_relu_layers():
    run = tiny_run()
    layers = [nn.Linear(512, 512) for _ in range(20)]
    run.model.net = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))
    run.model.net.add_module("head", nn.Linear(512, 10))
    KaimingInit().init(run.model, run)
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    last = run.model.net[:-1](x)

    assert 0.5 < (last**2).mean() / (x.relu() ** 2).mean() < 2
    assert all(torch.all(layer.bias == 0) for layer in layers)


def test_head_and_norms_keep_the_baseline():
    run, plain = tiny_run(), tiny_run()
    KaimingInit().init(run.model, run)
    changed = {
        name
        for (name, a), b in zip(run.model.named_parameters(), plain.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {name for name, p in plain.model.named_parameters() if p.ndim == 4}


def test_a_bare_head_has_nothing_to_draw():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten())
    run.model.net.add_module("head", nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="hidden linear layers"):
        KaimingInit().init(run.model, run)
