import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.stride_conv_vs_maxpool import StrideConvVsMaxpool, pooled
from harness.tricks.contract import NoEffect


class TestStrideConvVsMaxpool(TrickConformance):
    trick = StrideConvVsMaxpool


def maps(size, channels=4):
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_convolves_then_takes_the_largest_of_three_by_three():
    """The source's order and window: Springenberg et al., table 1."""
    conv, x = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), maps(8)
    weight = conv.weight.detach().clone()
    full = F.conv2d(x, weight, padding=1)
    largest = F.pad(full, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
    got = pooled(conv, StrideConvVsMaxpool().down)(x)

    torch.testing.assert_close(got, largest)
    assert bool((got >= F.conv2d(x, weight, stride=2, padding=1)).all())  # what the stride had is in the window


def test_pools_then_convolves():
    conv, x = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False), maps(8)
    weight = conv.weight.detach().clone()
    torch.testing.assert_close(pooled(conv, "avgpool_conv")(x), F.conv2d(F.avg_pool2d(x, 2), weight, padding=1))


@pytest.mark.parametrize(("stride", "size"), [(2, 11), (2, 12), (3, 13), (4, 13), ((1, 2), 12)])
def test_windows_cover_every_place_at_every_stride(stride, size):
    """A single high value anywhere in the convolution's output reaches the pooled map."""
    conv = nn.Conv2d(1, 1, 1, stride=stride, bias=False)
    nn.init.ones_(conv.weight)
    shape = conv(torch.zeros(1, 1, size, size)).shape
    spots = torch.eye(size * size).view(-1, 1, size, size)
    found = pooled(conv, "maxpool")(spots)

    assert found.shape[1:] == shape[1:]
    assert bool((found.amax((1, 2, 3)) == 1).all())


@pytest.mark.parametrize("down", ["maxpool", "avgpool_conv"])
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (1, 0)])
def test_output_shapes_are_equal(down, size, kernel, padding):
    conv = nn.Conv2d(4, 6, kernel, stride=2, padding=padding)
    before = conv(maps(size)).shape
    assert pooled(conv, down)(maps(size)).shape == before


@pytest.mark.parametrize(("name", "count"), [("resnet8", 4), ("timm/resnet18", 6), ("timm/resnet26", 6)])
def test_no_strided_convolution_is_left_in_the_blocks_and_weights_stay(name, count):
    ours = not name.startswith("timm")
    settings = {"channels": 3, "size": 64, "model": name, "width": 4 if ours else None}
    run, plain = tiny_run(**settings), tiny_run(**settings)
    model = StrideConvVsMaxpool().model(run.model, run)
    pools = [m for path, m in model.named_modules() if isinstance(m, nn.MaxPool2d) and path != "net.maxpool"]
    strided = [path for path, m in model.named_modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1]

    assert len(pools) == count
    assert strided == ([] if ours else ["net.conv1"])
    for a, b in zip(model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_needs_strided_convolutions():
    run = tiny_run()
    run.model = StrideConvVsMaxpool().model(run.model, run)
    with pytest.raises(NoEffect, match="strided"):
        StrideConvVsMaxpool().model(run.model, run)
