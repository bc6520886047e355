import pytest
import timm
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.optimization.no_bias_decay import NoBiasDecay
from harness.tricks.optimizers import exempt, vectors


class TestNoBiasDecay(TrickConformance):
    trick = NoBiasDecay
    recipe = {"weight_decay": 0.1}  # noqa: RUF012


def test_groups_partition_the_parameters_and_exactly_vectors_are_spared():
    run = tiny_run()
    parameters = list(run.model.parameters())
    groups = NoBiasDecay().param_groups([{"params": parameters, "lr": 0.5}], run)

    members = [p for group in groups for p in group["params"]]
    assert len(members) == len(parameters)
    assert set(members) == set(parameters)
    for group in groups:
        assert group["lr"] == 0.5
        assert all((p.ndim <= 1) == (group.get("weight_decay") == 0) for p in group["params"])


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("bias", {"0.bias"}),
        ("norm", {"1.weight", "1.bias"}),
        ("bias+norm", {"0.bias", "1.weight", "1.bias"}),
    ],
)
def test_scopes(scope, expected):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2, bias=False))
    names = {p: name for name, p in model.named_parameters()}

    assert {names[p] for p in vectors(model, scope)} == expected


def test_a_step_without_gradient_shrinks_the_matrix_only():
    run, layer = tiny_run(), nn.Linear(2, 2)
    groups = exempt([{"params": list(layer.parameters())}], vectors(layer, "bias"))
    optimizer = NoBiasDecay().wrap_optimizer(torch.optim.SGD(groups, lr=0.1, weight_decay=0.5), run)
    before = [p.detach().clone() for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()

    torch.testing.assert_close(layer.weight, before[0] * 0.95)
    assert torch.equal(layer.bias, before[1])


def test_refuses_a_model_without_vectors():
    run = tiny_run()
    run.model = nn.Sequential(nn.Linear(2, 2, bias=False))

    with pytest.raises(NoEffect, match="bias"):
        NoBiasDecay().param_groups([{"params": list(run.model.parameters())}], run)


def test_refuses_a_recipe_without_decay():
    run = tiny_run()
    groups = NoBiasDecay().param_groups([{"params": list(run.model.parameters())}], run)

    with pytest.raises(NoEffect, match="weight_decay"):
        NoBiasDecay().wrap_optimizer(torch.optim.SGD(groups, lr=0.1), run)


def test_what_a_network_of_timm_names_is_spared_too():
    """A transformer's position embedding and class token are no vectors, and timm's own recipes spare them."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
    names = {p: name for name, p in model.named_parameters()}
    spared = {names[p] for p in vectors(nn.Sequential(model), "bias+norm")}

    assert {"pos_embed", "cls_token"} <= spared
    assert not {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} & spared
    assert "pos_embed" not in {names[p] for p in vectors(model, "bias")}
