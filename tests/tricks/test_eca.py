import pytest
import torch
from pydantic import ValidationError

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.eca import ChannelAttention, Eca, kernel_size


class TestEca(TrickConformance):
    trick = Eca


@pytest.mark.parametrize("channels", [16, 64, 256, 1024])
def test_equals_timms_module(channels):
    from timm.layers import EcaModule

    ours, theirs = ChannelAttention(kernel_size(channels), torch.Generator().manual_seed(0)), EcaModule(channels)
    assert theirs.conv.weight.shape == ours.kernel.shape
    theirs.conv.weight.data.copy_(ours.kernel)
    x = torch.randn(2, channels, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x))


def test_sizes_by_hand():
    assert [kernel_size(c) for c in (8, 64, 256, 512, 2048)] == [3, 3, 5, 5, 7]  # log2(256) / 2 + 1/2 = 4.5


def test_a_kernel_of_zeros_halves_the_branches():
    run, plain = tiny_run(), tiny_run()
    model = Eca(k=5).model(run.model, run).eval()
    attentions = [m for m in model.modules() if isinstance(m, ChannelAttention)]
    assert [tuple(m.kernel.shape) for m in attentions] == [(1, 1, 5)] * 2
    for attention in attentions:
        attention.kernel.data.zero_()
    for block in (m for m in plain.model.modules() if hasattr(m, "shortcut")):
        block.norm2.weight.data /= 2
        block.norm2.bias.data /= 2
    x = tiny_batch().x
    torch.testing.assert_close(model(x), plain.model.eval()(x))


def test_even_kernels_are_refused():
    with pytest.raises(ValidationError, match="k = 4 is even"):
        Eca(k=4)
