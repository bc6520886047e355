import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.resnet_d import ResnetD
from harness.tricks.contract import NoEffect


class TestResnetD(TrickConformance):
    trick = ResnetD


def test_the_shortcut_sees_the_mean_of_four_pixels():
    run, plain = tiny_run(), tiny_run()
    model = ResnetD().model(run.model, run)
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours, theirs = (m.net.stage2[0].shortcut[0] for m in (model, plain.model))
    torch.testing.assert_close(ours(x), F.conv2d(F.avg_pool2d(x, 2), theirs.weight))
    assert model.net.stage2[0].conv1.stride == (2, 2)  # the branch stays


@pytest.mark.parametrize("side", [7, 8])
def test_sizes_agree_with_the_branch(side):
    run = tiny_run(channels=3, size=32, model="timm/resnet18", width=None)
    model = ResnetD().model(run.model, run)
    pools = [m for m in model.modules() if isinstance(m, nn.AvgPool2d)]
    assert len(pools) == 3
    assert model.net.layer2[0](torch.rand(1, 64, side, side)).shape[-1] == 4


def test_a_constant_map_gives_the_plain_shortcut():
    run, plain = tiny_run(), tiny_run()
    x = torch.full((1, 4, 7, 7), 0.7)
    ours, theirs = (m.net.stage2[0].shortcut[0](x) for m in (ResnetD().model(run.model, run), plain.model))
    torch.testing.assert_close(ours, theirs)


def test_nets_without_strided_shortcuts_are_refused():
    run = tiny_run()
    run.model.net.stage2[0].shortcut[0].stride = (1, 1)
    with pytest.raises(NoEffect, match="shortcuts with strided"):
        ResnetD().model(run.model, run)
