import math

import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.init_sweep import InitSweep, draw
from harness.tricks.contract import NoEffect


class TestInitSweep(TrickConformance):
    trick = InitSweep


def drawn(scheme, scale=1.0, shape=(64, 32, 3, 3)):
    weight = torch.empty(shape)
    draw(weight, scheme, scale, torch.Generator().manual_seed(0))
    return weight


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize(
    ("scheme", "std"),
    [("xavier", math.sqrt(2 / (9 * 96))), ("small", 1e-3), ("constant", 0.01), ("trunc_normal", 0.02 * 0.8796)],
)
def test_deviations(scheme, std, scale):
    """A normal law cut at two deviations has 0.8796 of its deviation."""
    weight = drawn(scheme, scale)
    assert abs(weight.std() / (scale * std) - 1) < 0.03
    assert abs(weight.mean()) < 5 * scale * std / weight.numel() ** 0.5


def test_truncation():
    assert drawn("trunc_normal", 3.0).abs().max() <= 0.12


@pytest.mark.parametrize(("shape", "wide"), [((16, 8, 3, 3), True), ((64, 4, 1, 1), False)])
def test_orthogonal_matrices(shape, wide):
    matrix = drawn("orthogonal", 1.5, shape).flatten(1)
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    torch.testing.assert_close(gram, 2.25 * torch.eye(len(gram)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scheme", ["xavier", "orthogonal", "trunc_normal", "small", "constant"])
def test_head_and_norms_keep_the_baseline(scheme):
    run, plain = tiny_run(), tiny_run()
    InitSweep(scheme=scheme).init(run.model, run)
    changed = {
        name
        for (name, a), b in zip(run.model.named_parameters(), plain.model.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {name for name, p in plain.model.named_parameters() if p.ndim == 4}


def test_hidden_biases_become_zero_and_a_bare_head_is_refused():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    run.model.net.add_module("head", nn.Linear(8, 10))
    InitSweep().init(run.model, run)
    assert torch.all(run.model.net[1].bias == 0)
    assert torch.any(run.model.head.bias != 0)

    run.model.net = nn.Sequential(nn.Flatten())
    run.model.net.add_module("head", nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="hidden linear"):
        InitSweep().init(run.model, run)
