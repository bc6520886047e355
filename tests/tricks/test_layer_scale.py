import pytest
import torch

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.layer_scale import ChannelScale, LayerScale
from harness.tricks.architecture.zero_gamma import ZeroGamma
from harness.tricks.stack import Stack


class TestLayerScale(TrickConformance):
    trick = LayerScale


def applied(**params):
    run = tiny_run()
    return LayerScale(**params).model(run.model, run)


def test_factors_of_one_give_the_plain_network_and_tiny_ones_its_shortcuts():
    x, plain = tiny_batch().x, tiny_run().model.train()
    torch.testing.assert_close(applied(start=1.0).train()(x), plain(x))

    block, h = applied(start=1e-9).train().net.stage1[0], torch.rand(4, 4, 8, 8)
    torch.testing.assert_close(block(h), h)  # the identity for h >= 0, which the last activation keeps


def test_each_channel_has_its_factor_and_learns_it():
    model = applied()
    scales = [m for m in model.modules() if isinstance(m, ChannelScale)]
    assert [m.scale.shape[0] for m in scales] == [4, 8]
    assert all(torch.equal(m.scale, torch.full_like(m.scale, 0.1)) for m in scales)

    model.train()(tiny_batch().x).square().sum().backward()
    assert all(m.scale.grad.abs().min() > 0 for m in scales)


def test_by_hand():
    layer = ChannelScale(2, 0.5, torch.device("cpu"))
    layer.scale.data[1] = 3.0
    out = layer(torch.ones(1, 2, 1, 2))
    assert out.flatten().tolist() == [0.5, 0.5, 3.0, 3.0]


def test_another_gain_at_the_start_is_refused():
    with pytest.raises(UserError, match="gain of residual branches"):
        Stack([LayerScale(), ZeroGamma()])
