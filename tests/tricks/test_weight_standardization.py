import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.weight_standardization import (
    StandardizedConv2d,
    WeightStandardization,
    standardize,
    standardized,
)


class TestWeightStandardization(TrickConformance):
    trick = WeightStandardization


def test_filters_have_mean_zero_and_variance_one():
    w = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 4 + 2
    flat = standardized(w).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(5), rtol=0, atol=1e-6)
    torch.testing.assert_close(flat.var(1, correction=0), torch.ones(5))


def test_equals_timms_layer():
    from timm.layers import StdConv2d

    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
    theirs = StdConv2d(4, 6, 3, stride=2, padding=1)
    theirs.weight.data.copy_(conv.weight)
    x = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standardize(conv)(x), theirs(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_settings_and_weights_are_kept(groups):
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=groups, padding_mode="reflect")
    new = standardize(conv)
    x = torch.rand(2, 4, 9, 9)
    assert new.weight is conv.weight
    with torch.no_grad():
        conv.weight.copy_(standardized(conv.weight))
        new.weight = nn.Parameter(conv.weight.clone())
    torch.testing.assert_close(new(x), conv(x), rtol=1e-4, atol=1e-4)


def test_every_convolution_is_swapped_but_those_of_one_weight():
    run = tiny_run()
    run.model.net.stem.append(nn.Conv2d(4, 4, 1, groups=4))
    model = WeightStandardization().model(run.model, run)
    plain = [m for m in model.modules() if type(m) is nn.Conv2d]
    assert len(plain) == 1
    assert plain[0].groups == 4
    assert sum(isinstance(m, StandardizedConv2d) for m in model.modules()) == 6
