"""What tricks draw when a network is built: initial weights, up to the ends of their range, and dropout rates."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from draws import assert_drawn, assert_share, assert_uniform, recorded
from harness.testing import tiny_run
from harness.tricks import registry
from harness.tricks.blocks import DropBranch
from harness.tricks.modules import drawn_linear


def of(name):
    return import_module(registry.builtin()[name]), registry.load(name)


def assert_normal(values, std):
    """The values have a normal distribution around zero."""
    assert_uniform(torch.special.ndtr(values.detach().double().flatten() / std), 0, 1)


def weight_of(name, **params):
    """A weight (64, 32, 3, 3) that the trick drew."""
    _, cls = of(name)
    run = tiny_run(width=32)
    trick = cls(**params)
    run.model = trick.model(run.model, run) if "model" in vars(cls) else run.model
    if "init" in vars(cls):
        trick.init(run.model, run)
    return run.model.net.stage2[0].conv1.weight.detach()


def test_a_linear_layer_of_ones_own_is_uniform_as_torchs():
    layer = drawn_linear(16, 500, torch.Generator().manual_seed(0))

    for values in (layer.weight, layer.bias):
        assert_uniform(values.detach().flatten(), -0.25, 0.25)


@pytest.mark.parametrize("size", [3, 7])
def test_the_kernel_of_eca_is_uniform_as_torchs(size):
    module, _ = of("eca")
    g = torch.Generator().manual_seed(0)
    drawn = torch.cat([module.ChannelAttention(size, g).kernel.detach().flatten() for _ in range(500)])

    assert_uniform(drawn, -(size**-0.5), size**-0.5)


HEADS = ["concat_pool", "memory_bank", "multi_task_aux_loss", "shrinkage_block", "simcse_aux", "squeeze_excite"]


@pytest.mark.parametrize("name", HEADS)
def test_added_layers_are_drawn_from_the_tricks_own_stream(monkeypatch, name):
    """Directly or as a projection of the shared modules, which draws so, too."""
    module, cls = of(name)
    function = "drawn_linear" if hasattr(module, "drawn_linear") else "projection"
    calls, run, trick = recorded(monkeypatch, module, function), tiny_run(), cls()
    run.model = trick.model(run.model, run)
    trick.param_groups([{"params": list(run.model.parameters())}], run)

    assert calls
    assert all(args[-1] is run.rng(name) for args in calls)


@pytest.mark.parametrize(
    ("name", "params", "std"),
    [
        ("kaiming_init", {}, math.sqrt(2 / (9 * 32))),
        ("kaiming_init", {"mode": "fan_out", "gain": 1.0}, math.sqrt(1 / (9 * 64))),
        ("init_sweep", {}, math.sqrt(2 / (9 * (32 + 64)))),
        ("init_sweep", {"scheme": "constant"}, 0.01),
        ("init_sweep", {"scheme": "small", "scale": 3.0}, 0.003),
        ("tanh_hidden", {}, 5 / 3 * math.sqrt(2 / (9 * (32 + 64)))),
    ],
)
def test_normal_weights(name, params, std):
    assert_normal(weight_of(name, **params), std)


@pytest.mark.parametrize(("params", "gain"), [({}, math.sqrt(2)), ({"gain": 0.5}, 0.5)])
def test_uniform_weights_fill_the_range_of_their_deviation(params, gain):
    end = math.sqrt(3) * gain / math.sqrt(9 * 32)

    assert_uniform(weight_of("kaiming_init", dist="uniform", **params).flatten(), -end, end)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_truncated_normal_ends_at_two_deviations(scale):
    """So its distribution is (Phi(x) - Phi(-2)) / (Phi(2) - Phi(-2))."""
    drawn = weight_of("init_sweep", scheme="trunc_normal", scale=scale).flatten().double() / (0.02 * scale)
    low, high = (float(torch.special.ndtr(torch.tensor(z, dtype=torch.float64))) for z in (-2, 2))

    assert float(drawn.abs().max()) <= 2 + 1e-6
    assert_drawn(drawn, lambda x: (torch.special.ndtr(torch.from_numpy(np.asarray(x))).numpy() - low) / (high - low))


def test_noise_around_the_identity():
    _, cls = of("identity_init")
    for params, std in (({}, 0.0), ({"noise": 0.02}, 0.02)):
        run = tiny_run(width=32)
        run.model.net = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1))
        cls(**params).init(run.model, run)
        off = run.model.net[0].weight.detach() - nn.init.dirac_(torch.empty(32, 32, 3, 3))
        if std:
            assert_normal(off, std)
        else:
            assert not off.any()


def test_branches_of_one_pixel_have_kaimings_deviation():
    """By what one input reaches: a branch (64, 32, 1, 1) has sqrt(2 / 64)."""
    module, cls = of("repvgg_reparam")
    run = tiny_run(width=32)
    found = [m for m in cls().model(run.model, run).modules() if isinstance(m, module.RepBranches)]
    ones = [
        conv.weight for m in found for conv in m.convs if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1)
    ]
    wide = next(w for w in ones if w.shape == (64, 32, 1, 1))

    assert_normal(wide, math.sqrt(2 / 64))


@pytest.mark.parametrize(
    ("name", "params", "inputs", "branches"),
    [
        ("dropout", {}, {0.2}, set()),
        ("dropout", {"p": 0.7}, {0.7}, set()),
        ("r_drop", {}, {0.1}, set()),
        ("simcse_aux", {}, {0.1}, set()),
        ("stochastic_depth", {}, set(), {0.05, 0.1}),
        ("stochastic_depth", {"rate": 0.4, "rule": "uniform"}, set(), {0.4}),
        ("dropout_multiplier", {}, {0.2, 0.1}, {0.05}),
        ("dropout_multiplier", {"m": 2.0, "head": 0.3}, {0.6, 0.2}, {0.1}),
    ],
)
def test_dropout_rates(monkeypatch, name, params, inputs, branches):
    """What falls out at a rate is tested in test_draws.py for units and channels, and here for branches."""
    module, cls = of(name)
    calls = {f: recorded(monkeypatch, module, f) for f in ("DropInput", "DropBranch") if hasattr(module, f)}
    run = tiny_run()
    cls(**params).model(run.model, run)

    assert {args[0] for args in calls.get("DropInput", ())} == inputs
    assert {args[0] for args in calls.get("DropBranch", ())} == branches
    assert all(args[1] is run.rng(name) for found in calls.values() for args in found)


@pytest.mark.parametrize("p", [0.05, 0.6])
def test_branches_fall_out_for_whole_images(p):
    module = nn.Identity().train()
    drop = DropBranch(p, torch.Generator().manual_seed(0))
    out = drop(module, (), torch.ones(2000, 2, 2, 2))

    assert_share(out[:, 0, 0, 0] == 0, p)
    assert torch.equal(out, out[:, :1, :1, :1].expand_as(out))
    torch.testing.assert_close(out[out > 0], torch.full_like(out[out > 0], 1 / (1 - p)))
