import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.group_norm import GroupNorm, group_count, to_group_norm
from harness.tricks.contract import NoEffect


class TestGroupNorm(TrickConformance):
    trick = GroupNorm


@pytest.mark.parametrize(
    ("channels", "most", "groups"),
    [
        (256, 32, 32),
        (128, 32, 32),
        (64, 32, 16),
        (16, 32, 4),
        (4, 32, 1),
        (3, 32, 1),
        (48, 32, 12),
        (64, 3, 2),
        (7, 32, 1),
    ],
)
def test_group_count(channels, most, groups):
    assert group_count(channels, most) == groups


def test_by_hand():
    """Two groups of four channels: mean 0 and variance 1 per image, before the copied scale and shift."""
    batch_norm = nn.BatchNorm2d(8, eps=1e-3)
    with torch.no_grad():
        batch_norm.weight.copy_(torch.arange(1.0, 9.0))
        batch_norm.bias.fill_(0.5)
    x = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    groups = x.reshape(3, 2, -1)
    variance, mean = torch.var_mean(groups, -1, keepdim=True, correction=0)
    expected = ((groups - mean) / (variance + 1e-3).sqrt()).view_as(x) * torch.arange(1.0, 9.0).view(1, 8, 1, 1) + 0.5

    torch.testing.assert_close(to_group_norm(batch_norm, 2)(x), expected)


def test_swaps_every_batch_norm_and_outputs_ignore_batch_mates():
    run = tiny_run()
    before = sum(isinstance(m, nn.BatchNorm2d) for m in run.model.modules())
    model = GroupNorm().model(run.model, run).train()
    x = tiny_batch().x

    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert sum(isinstance(m, nn.GroupNorm) for m in model.modules()) == before
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


def test_keeps_what_timm_fused_into_the_norm():
    from timm.layers import BatchNormAct2d

    out = to_group_norm(BatchNormAct2d(8), 2)(torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert out.min() == 0  # the relu is still there


def test_no_batch_norm_no_effect():
    run = tiny_run()
    GroupNorm().model(run.model, run)
    with pytest.raises(NoEffect, match="BatchNorm2d"):
        GroupNorm().model(run.model, run)
