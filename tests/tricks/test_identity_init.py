import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.identity_init import IdentityInit
from harness.tricks.contract import NoEffect


class TestIdentityInit(TrickConformance):
    trick = IdentityInit


def net_of(*layers):
    run = tiny_run()
    run.model.net = nn.Sequential(*layers)
    return run


def test_convolutions_pass_their_input_on():
    run = net_of(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 5, padding=2, groups=3), nn.Conv2d(3, 3, 1))
    IdentityInit().init(run.model, run)
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    for conv in run.model.net:
        assert torch.equal(conv(x), x)


def test_other_layers_keep_the_baseline():
    run, plain = tiny_run(), tiny_run()
    IdentityInit().init(run.model, run)
    changed = {
        name
        for (name, a), b in zip(run.model.named_parameters(), plain.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {
        "net.stage1.0.conv1.weight",
        "net.stage1.0.conv2.weight",
        "net.stage2.0.conv2.weight",
    }


def test_noise_has_the_given_deviation_around_the_kernel():
    run = net_of(nn.Conv2d(32, 32, 3, padding=1))
    IdentityInit(noise=0.01).init(run.model, run)
    off = run.model.net[0].weight.detach() - nn.init.dirac_(torch.empty(32, 32, 3, 3))

    assert abs(off.std() - 0.01) < 0.0005
    assert abs(off.mean()) < 0.0005


def test_nothing_to_set():
    run = net_of(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 2))
    with pytest.raises(NoEffect, match="as many output as input channels"):
        IdentityInit().init(run.model, run)
