import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.resnet_b import ResnetB, strided_first
from harness.tricks.contract import NoEffect


class TestResnetB(TrickConformance):
    trick = ResnetB


def test_the_second_convolution_takes_the_stride_and_weights_stay():
    run, plain = tiny_run(), tiny_run()
    block, was = ResnetB().model(run.model, run).net.stage2[0].eval(), plain.model.net.stage2[0].eval()
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    hidden = was.act1(was.norm1(F.conv2d(x, was.conv1.weight, stride=1, padding=1)))
    branch = was.norm2(F.conv2d(hidden, was.conv2.weight, stride=2, padding=1))
    torch.testing.assert_close(block(x), F.relu(branch + was.shortcut(x)))
    assert (was.conv1.stride, was.conv2.stride) == ((2, 2), (1, 1))


class Bottleneck(nn.Module):
    """As in the first ResNets: the 1x1 convolution has the stride."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(2, 2, 1, stride=2, bias=False), nn.Identity()
        self.conv2, self.norm2 = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Identity()
        self.shortcut = nn.Identity()

    def forward(self, x):
        return self.conv2(self.conv1(x))


def test_a_bottleneck_sees_all_pixels_in_place_of_a_quarter():
    run = tiny_run()
    run.model.net.stage2 = nn.Sequential(Bottleneck())
    x = torch.rand(1, 2, 6, 6, requires_grad=True)
    run.model.net.stage2[0](x).sum().backward()
    assert int((x.grad[0, 0] != 0).sum()) == 9
    block = ResnetB().model(run.model, run).net.stage2[0]
    x.grad = None
    block(x).sum().backward()
    assert int((x.grad[0, 0] != 0).sum()) == 36
    assert not strided_first(block)


def test_bottlenecks_of_timm_have_it_already():
    block = timm.create_model("resnet26").layer2[0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))
    assert not strided_first(block)


def test_a_second_time_is_refused():
    run = tiny_run()
    model = ResnetB().model(run.model, run)
    with pytest.raises(NoEffect, match="first convolution has the stride"):
        ResnetB().model(model, run)
