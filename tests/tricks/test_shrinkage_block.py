import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.shrinkage_block import Shrinkage, ShrinkageBlock, soft_threshold
from harness.tricks.contract import NoEffect, NotApplicable


class TestShrinkageBlock(TrickConformance):
    trick = ShrinkageBlock


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def maps():
    return torch.randn(5, 4, 6, 6, generator=generator())


def constant_share(shared, logit):
    """A shrinkage whose share a is sigmoid(logit) whatever comes in."""
    layer = Shrinkage(4, 4, shared, generator())
    nn.init.zeros_(layer.mlp[3].weight)
    nn.init.constant_(layer.mlp[3].bias, logit)
    return layer


def test_soft_threshold_by_hand():
    x = torch.tensor([-3.0, -0.5, 0.2, 2.0]).view(1, 1, 2, 2)
    expected = torch.tensor([-2.0, 0.0, 0.0, 1.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(soft_threshold(x, torch.tensor([[1.0]])), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_threshold_is_a_share_of_the_mean_magnitude(shared):
    x = maps()
    mean = x.abs().mean((1, 2, 3) if shared else (2, 3))
    tau = 0.25 * mean.view(5, -1, 1, 1)  # sigmoid(-log 3) = 1 / 4
    expected = x.sign() * (x.abs() - tau).clamp(min=0)
    torch.testing.assert_close(constant_share(shared, -(torch.tensor(3.0).log().item()))(x), expected)


@pytest.mark.parametrize("shared", [False, True])
def test_never_silences_an_image_and_never_flips_a_sign(shared):
    x = maps()
    out = Shrinkage(4, 2, shared, generator(1))(x)
    assert torch.all(out * x >= 0)
    assert torch.all(out.abs() <= x.abs())
    assert torch.all(out.abs().amax((1, 2, 3) if shared else (2, 3)) > 0)


def test_a_share_of_zero_gives_the_plain_network():
    run, plain = tiny_run(), tiny_run()
    model = ShrinkageBlock().model(run.model, run)
    for layer in (m for m in model.modules() if isinstance(m, Shrinkage)):
        nn.init.zeros_(layer.mlp[3].weight)
        nn.init.constant_(layer.mlp[3].bias, -100.0)
    x = tiny_batch().x
    torch.testing.assert_close(model.train()(x), plain.model.train()(x))


@pytest.mark.parametrize(("name", "count"), [("digits_resnet", 2), ("timm/resnet26", 8)])
def test_every_block_gets_one_of_the_right_size(name, count):
    ours = name == "digits_resnet"
    run = tiny_run(channels=1 if ours else 3, size=32, model=name, width=4 if ours else None)
    model = ShrinkageBlock(variant="CS", reduction=4).model(run.model, run)
    layers = [m for m in model.modules() if isinstance(m, Shrinkage)]

    assert len(layers) == count
    assert all(layer.mlp[3].out_features == 1 for layer in layers)
    assert layers[-1].mlp[0].in_features == (8 if ours else 2048)
    assert layers[-1].mlp[0].out_features == (2 if ours else 512)
    assert model(torch.rand(2, 1 if ours else 3, 32, 32, generator=generator())).shape == (2, 10)


def test_the_small_nets_learn():
    run = tiny_run()
    model = ShrinkageBlock().model(run.model, run).train()
    model(tiny_batch().x).square().sum().backward()
    layers = [m for m in model.modules() if isinstance(m, Shrinkage)]
    assert all(layer.mlp[0].weight.grad.abs().sum() > 0 for layer in layers)


def test_batches_of_one_and_plain_nets_are_refused():
    run = tiny_run(batch_size=1)
    with pytest.raises(NotApplicable, match="two images"):
        ShrinkageBlock().model(run.model, run)
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten())
    with pytest.raises(NoEffect, match="residual blocks"):
        ShrinkageBlock().model(run.model, run)
