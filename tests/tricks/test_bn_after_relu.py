import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.bn_after_relu import BnAfterRelu
from harness.tricks.contract import NoEffect


class TestBnAfterRelu(TrickConformance):
    trick = BnAfterRelu


def images(channels=4):
    return torch.randn(6, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def test_block_by_hand():
    """conv, relu, norm, conv, norm, plus shortcut, relu; norms with batch statistics."""
    run = tiny_run()
    block = BnAfterRelu().model(run.model, run).train().net.stage1[0]
    x = images()

    def norm(h):
        variance, mean = torch.var_mean(h, (0, 2, 3), keepdim=True, correction=0)
        return (h - mean) / (variance + 1e-5).sqrt()

    inner = norm(F.conv2d(x, block.conv1.weight, padding=1).relu())
    expected = (norm(F.conv2d(inner, block.conv2.weight, padding=1)) + x).relu()
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "inner"), [("resnet18", 8), ("resnet26", 16)])
def test_inner_layers_of_timm_end_centred(name, inner):
    run = tiny_run(channels=3, size=64, model=f"timm/{name}", width=None)
    model = BnAfterRelu().model(run.model, run).train()
    swapped = [m for m in model.modules() if isinstance(m, nn.Sequential) and isinstance(m[0], nn.ReLU)]
    seen = []
    for module in swapped:
        module.register_forward_hook(lambda _m, _args, out: seen.append(out.mean((0, 2, 3)).abs().max()))
    with torch.no_grad():
        model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))

    assert len(seen) == inner
    assert max(seen) < 1e-4


def test_weights_stay():
    run, plain = tiny_run(), tiny_run()
    BnAfterRelu().model(run.model, run)
    for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_needs_residual_blocks():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with pytest.raises(NoEffect, match="residual blocks"):
        BnAfterRelu().model(run.model, run)
