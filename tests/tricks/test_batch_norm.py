import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.batch_norm import BatchNorm, replacement
from harness.tricks.contract import NoEffect, NotApplicable


class TestBatchNorm(TrickConformance):
    trick = BatchNorm


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def images(seed=0):
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def trained_norm():
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(1.0, 5.0))
        norm.bias.copy_(torch.arange(4.0))
    return norm


def test_without_normalisation_a_shift_is_left():
    x = images()
    expected = x + torch.arange(4.0).view(1, 4, 1, 1)
    torch.testing.assert_close(replacement(trained_norm(), "none", 1e-5)(x), expected)


@pytest.mark.parametrize(("kind", "axes"), [("layer", (1, 2, 3)), ("instance", (2, 3))])
def test_statistics_by_hand(kind, axes):
    x = images()
    variance, mean = torch.var_mean(x, axes, keepdim=True, correction=0)
    expected = (x - mean) / (variance + 0.1).sqrt() * torch.arange(1.0, 5.0).view(1, 4, 1, 1)
    expected = expected + torch.arange(4.0).view(1, 4, 1, 1)

    torch.testing.assert_close(replacement(trained_norm(), kind, 0.1)(x), expected)


@pytest.mark.parametrize("kind", ["none", "layer", "instance"])
def test_replaces_every_norm_and_outputs_ignore_batch_mates(kind):
    run = tiny_run()
    model = BatchNorm(norm=kind).model(run.model, run).train()
    x = tiny_batch().x

    assert not norms(model)
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


def test_baseline_normalises_and_ignores_the_scale_of_weights():
    """What the negative arm takes away: zero mean, unit variance and BN(a W x) = BN(W x)."""
    norm, x = nn.BatchNorm2d(4, eps=1e-9), images()
    out = norm(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var((0, 2, 3), correction=0), torch.ones(4))
    torch.testing.assert_close(norm(7 * x), out)

    plain = replacement(nn.BatchNorm2d(4), "none", 1e-5)
    torch.testing.assert_close(plain(7 * x), 7 * x)


def test_constants_reach_the_running_statistics():
    run = tiny_run()
    model = BatchNorm(norm="batch", momentum=0.4, eps=0.01).model(run.model, run).train()
    before = model.net.stem[1].running_mean.clone()
    inputs = []
    model.net.stem[1].register_forward_pre_hook(lambda _m, args: inputs.append(args[0].detach()))
    model(tiny_batch().x)

    assert {(n.momentum, n.eps) for n in norms(model)} == {(0.4, 0.01)}
    expected = 0.6 * before + 0.4 * inputs[0].mean((0, 2, 3))
    torch.testing.assert_close(model.net.stem[1].running_mean, expected)


def test_keeps_what_timm_fused_into_the_norm():
    from timm.layers import BatchNormAct2d

    assert replacement(BatchNormAct2d(4), "none", 1e-5)(images()).min() == 0  # the relu is still there


def test_the_baselines_own_constants_are_refused():
    run = tiny_run()
    with pytest.raises(NoEffect, match="baseline"):
        BatchNorm(norm="batch").model(run.model, run)


@pytest.mark.parametrize(
    ("params", "reason"),
    [({"momentum": 0.2}, "momentum belongs"), ({"eps": 0.1}, "eps belongs")],
)
def test_values_that_would_be_ignored_are_refused(params, reason):
    run = tiny_run()
    with pytest.raises(NotApplicable, match=reason):
        BatchNorm(norm="none", **params).model(run.model, run)


@pytest.mark.parametrize("params", [{"norm": "layer"}, {"norm": "batch", "momentum": 0.2}])
def test_no_batch_norm_no_effect(params):
    run = tiny_run()
    run.model = BatchNorm().model(run.model, run)
    with pytest.raises(NoEffect, match="BatchNorm2d"):
        BatchNorm(**params).model(run.model, run)
