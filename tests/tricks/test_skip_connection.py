import copy

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.skip_connection import SkipConnection
from harness.tricks.contract import NoEffect


class TestSkipConnection(TrickConformance):
    trick = SkipConnection


def images(channels, size=8):
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0)) + 0.1


def silent(block, last):
    """A copy of the block whose branch is zero."""
    block = copy.deepcopy(block).eval()
    nn.init.zeros_(getattr(block, last).weight)
    return block


def test_a_branch_of_zero_lets_nothing_through():
    """With the shortcut such a block is the identity, and the derivative contains the unit matrix."""
    run, plain = tiny_run(), tiny_run()
    model = SkipConnection().model(run.model, run)
    x = images(4, size=3)
    with_shortcut, without = (silent(m.net.stage1[0], "norm2") for m in (plain.model, model))

    assert torch.equal(with_shortcut(x), x)
    assert torch.equal(without(x), torch.zeros_like(x))
    one = x[:1]
    assert torch.equal(jacobian(with_shortcut, one).view(one.numel(), -1), torch.eye(one.numel()))
    assert torch.equal(jacobian(without, one).view(one.numel(), -1), torch.zeros(one.numel(), one.numel()))


def test_every_block_is_the_branch_alone():
    run, plain = tiny_run(), tiny_run()
    model = SkipConnection().model(run.model, run).eval()
    for stage, channels in (("stage1", 4), ("stage2", 4)):
        block, old = getattr(model.net, stage)[0], getattr(plain.model.eval().net, stage)[0]
        x = images(channels)
        expected = old.norm2(old.conv2(old.norm1(old.conv1(x)).relu())).relu()
        torch.testing.assert_close(block(x), expected)
    removed = sum(p.numel() for p in plain.model.net.stage2[0].shortcut.parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.model.parameters()) - removed


@pytest.mark.parametrize(("name", "last"), [("resnet18", "bn2"), ("resnet26", "bn3")])
def test_cuts_timms_shortcuts(name, last):
    run = tiny_run(channels=3, size=32, model=f"timm/{name}", width=None)
    model = SkipConnection().model(run.model, run)
    blocks = [m for m in model.modules() if hasattr(m, "downsample")]

    assert len(blocks) == 8
    for block in blocks:
        out = silent(block, last)(images(block.conv1.in_channels))
        assert torch.equal(out, torch.zeros_like(out))


def test_nets_without_shortcuts_are_refused():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with pytest.raises(NoEffect, match="residual blocks"):
        SkipConnection().model(run.model, run)
