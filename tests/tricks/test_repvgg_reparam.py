import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.repvgg_reparam import RepBranches, RepvggReparam, folded
from harness.tricks.contract import NoEffect, NotApplicable


class TestRepvggReparam(TrickConformance):
    trick = RepvggReparam


def applied(name="digits_resnet", **params):
    ours = not name.startswith("timm")
    run = tiny_run(channels=1 if ours else 3, size=8 if ours else 32, model=name, width=4 if ours else None)
    run.model = RepvggReparam(**params).model(run.model, run)
    return run


def branches(model):
    return [m for m in model.modules() if isinstance(m, RepBranches)]


def trained(run):
    """As after training: norms with scales, shifts and statistics of their own."""
    g = torch.Generator().manual_seed(3)
    for norm in (m for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor, low in ((norm.weight, 0.5), (norm.bias, -1), (norm.running_mean, -1), (norm.running_var, 0.5)):
            tensor.data.copy_(low + 2 * torch.rand(tensor.shape, generator=g))
    return run


def test_sum_of_branches_by_hand():
    run = applied()
    layer = branches(run.model.train())[0]
    x = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def norm(h):
        variance, mean = torch.var_mean(h, (0, 2, 3), keepdim=True, correction=0)
        return (h - mean) / (variance + 1e-5).sqrt()

    three, one = layer.convs[0].weight, layer.convs[1].weight
    expected = norm(F.conv2d(x, three, padding=1)) + norm(F.conv2d(x, one)) + norm(x)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "counts"),
    [
        # 4 to 4, 4 to 4, 4 to 8 with stride, 8 to 8
        ({}, [3, 3, 2, 3]),
        ({"branches": "1x1"}, [2, 2, 2, 2]),
        ({"branches": "identity"}, [2, 2, 1, 2]),
    ],
)
def test_branches_of_each_layer(params, counts):
    assert [len(m.convs) for m in branches(applied(**params).model)] == counts


@pytest.mark.parametrize("name", ["digits_resnet", "timm/resnet18", "timm/resnet26"])
def test_folding_keeps_outputs_and_leaves_the_baselines_parameters(name):
    run = trained(applied(name))
    plain = tiny_run(channels=run.data.channels, size=run.data.size, model=name, width=run.spec.model.width)
    folded_model = RepvggReparam().finalize(run.model, run).eval()
    x = tiny_batch(channels=run.data.channels, size=run.data.size).x

    with torch.no_grad():
        expected = run.model.eval()(x)
        torch.testing.assert_close(folded_model(x), expected, atol=1e-3 * float(expected.abs().max()), rtol=1e-3)
    assert not branches(folded_model)
    assert len(branches(run.model)) > 0  # the trained network is left as it is
    kernels = [p.numel() for p in folded_model.parameters() if p.ndim > 1]
    assert kernels == [p.numel() for p in plain.model.parameters() if p.ndim > 1]


def test_folds_one_layer_to_the_bit_that_float32_allows():
    layer = branches(trained(applied()).model)[0].eval()
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(folded(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_the_gate_refuses_a_fold_that_changes_outputs(monkeypatch):
    run = trained(applied())

    def wrong(layer):
        conv = folded(layer)
        conv.weight.mul_(1.01)
        return conv

    monkeypatch.setattr("harness.tricks.architecture.repvgg_reparam.folded", wrong)
    with pytest.raises(ArithmeticError, match="changed the outputs"):
        RepvggReparam().finalize(run.model, run)


def test_the_3x3_branch_keeps_the_baseline_and_the_rest_is_the_tricks():
    state = torch.get_rng_state()
    first, second, plain = applied(), applied(), tiny_run()
    kept = plain.model.net.stage1[0].conv1.weight

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(branches(first.model)[0].convs[0].weight, kept)
    assert torch.equal(branches(first.model)[0].convs[1].weight, branches(second.model)[0].convs[1].weight)


def test_copies_can_be_folded():
    run = trained(applied())
    clone = copy.deepcopy(run.model)
    x = tiny_batch().x
    torch.testing.assert_close(
        RepvggReparam().finalize(clone, run).eval()(x), run.model.eval()(x), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["digits_resnet", "timm/resnet18"])
def test_a_layer_tells_its_width_as_a_convolution_does(name):
    for layer in branches(applied(name).model):
        assert layer.out_channels == layer.convs[0].weight.shape[0]


def test_refuses_norms_that_cannot_be_folded_and_nets_without_blocks():
    run = applied()
    branches(run.model)[0].norms[0] = nn.GroupNorm(1, 4)
    with pytest.raises(NotApplicable, match="batch norm"):
        RepvggReparam().prepare(run)
    run = tiny_run()
    for block in (m for m in run.model.modules() if hasattr(m, "shortcut")):
        block.norm1 = block.norm2 = nn.Identity()
    with pytest.raises(NoEffect, match="3x3"):
        RepvggReparam().model(run.model, run)
