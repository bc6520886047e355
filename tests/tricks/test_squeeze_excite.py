import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.squeeze_excite import SqueezeExcitation, SqueezeExcite
from harness.tricks.architecture.zero_gamma import ZeroGamma


class TestSqueezeExcite(TrickConformance):
    trick = SqueezeExcite


def test_equals_timms_layer():
    from timm.layers import SqueezeExcite as Theirs

    ours, theirs = SqueezeExcitation(32, 8, torch.Generator().manual_seed(0)), Theirs(32, rd_channels=8)
    for mine, other in ((ours.reduce, theirs.fc1), (ours.expand, theirs.fc2)):
        other.weight.data.copy_(mine.weight[..., None, None])
        other.bias.data.copy_(mine.bias)
    x = torch.randn(3, 32, 5, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x))


def gates(model):
    return [m for m in model.modules() if isinstance(m, SqueezeExcitation)]


def test_open_gates_give_the_plain_network():
    run, x = tiny_run(), tiny_batch().x
    model = SqueezeExcite().model(run.model, run).train()
    for gate in gates(model):
        nn.init.zeros_(gate.expand.weight)
        nn.init.constant_(gate.expand.bias, 100.0)
    torch.testing.assert_close(model(x), tiny_run().model.train()(x))


@pytest.mark.parametrize(("name", "sizes"), [("digits_resnet", [(4, 8), (8, 8)]), ("timm/resnet26", None)])
def test_every_branch_is_gated_behind_its_last_norm(name, sizes):
    ours = sizes is not None
    run = tiny_run(channels=1 if ours else 3, size=32, model=name, width=4 if ours else None)
    model = SqueezeExcite().model(run.model, run)
    found = [(gate.reduce.in_features, gate.reduce.out_features) for gate in gates(model)]

    assert found == sizes if ours else found[-1] == (2048, 128) and len(found) == 8
    assert model(torch.rand(2, 1 if ours else 3, 32, 32)).shape == (2, 10)


def test_the_scale_of_the_norm_is_still_found_as_the_branchs_last():
    run = tiny_run()
    model = SqueezeExcite().model(run.model, run)
    ZeroGamma().init(model, run)
    h = torch.rand(2, 4, 8, 8)
    assert torch.equal(model.net.stage1[0](h), h)
