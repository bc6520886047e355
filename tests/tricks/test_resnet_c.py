import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.resnet_c import ResnetC
from harness.tricks.contract import NoEffect


class TestResnetC(TrickConformance):
    trick = ResnetC


@pytest.mark.parametrize(("name", "stride", "width"), [("digits_resnet", 1, 4), ("timm/resnet18", 2, 64)])
def test_three_convolutions_with_the_old_stride_and_width(name, stride, width):
    ours = name == "digits_resnet"
    run = tiny_run(channels=1 if ours else 3, size=32, model=name, width=4 if ours else None)
    old = next(m for m in run.model.modules() if isinstance(m, nn.Conv2d))
    x = torch.rand(2, 1 if ours else 3, 32, 32)
    size = old(x).shape
    model = ResnetC().model(run.model, run)
    stem = next(m for m in model.net.modules() if isinstance(m, nn.Sequential) and len(m) == 7)
    convs = [m for m in stem if isinstance(m, nn.Conv2d)]

    assert stem(x).shape == size
    assert [c.out_channels for c in convs] == [width // 2, width // 2, width]
    assert [c.stride[0] for c in convs] == [stride, 1, 1]
    assert model(x).shape == (2, 10)


def test_weights_have_the_variance_of_the_baselines():
    run = tiny_run(width=64)
    model = ResnetC().model(run.model, run)
    last = model.net.stem[0][6]
    assert float(last.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_a_single_channel_is_refused():
    run = tiny_run(width=1)
    with pytest.raises(NoEffect, match="no half"):
        ResnetC().model(run.model, run)
