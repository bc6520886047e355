import math

import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.relu import ACTIVATIONS, Relu
from harness.tricks.contract import NoEffect


class TestRelu(TrickConformance):
    trick = Relu


@pytest.mark.parametrize(
    ("act", "at_minus_one", "at_two"),
    [
        ("tanh", -math.tanh(1), math.tanh(2)),
        ("silu", -1 / (1 + math.e), 2 / (1 + math.exp(-2))),
        ("gelu", -0.5 * (1 - math.erf(1 / 2**0.5)), 1 + math.erf(2**0.5)),
        ("mish", -math.tanh(math.log1p(math.exp(-1))), 2 * math.tanh(math.log1p(math.exp(2)))),
        ("leaky", -0.01, 2.0),
        ("prelu", -0.25, 2.0),
        ("elu", math.exp(-1) - 1, 2.0),
    ],
)
def test_values_by_hand(act, at_minus_one, at_two):
    out = ACTIVATIONS[act]()(torch.tensor([-1.0, 0.0, 2.0]))
    torch.testing.assert_close(out.detach(), torch.tensor([at_minus_one, 0.0, at_two]))


def test_relu_alone_is_positively_homogeneous():
    x = torch.randn(100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nn.ReLU()(3 * x), 3 * nn.ReLU()(x))
    assert not torch.allclose(nn.SiLU()(3 * x), 3 * nn.SiLU()(x))


@pytest.mark.parametrize("act", list(ACTIVATIONS))
def test_swaps_every_relu_and_keeps_the_weights(act):
    run, plain = tiny_run(), tiny_run()
    before = sum(isinstance(m, nn.ReLU) for m in run.model.modules())
    model = Relu(act=act).model(run.model, run)
    kind = type(ACTIVATIONS[act]())

    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    assert sum(isinstance(m, kind) for m in model.modules()) == before == 5
    own = dict(model.named_parameters())
    assert all(torch.equal(own[name], p) for name, p in plain.model.named_parameters())
    assert len(own) == len(list(plain.model.parameters())) + (before if act == "prelu" else 0)


def test_no_relu_no_effect():
    run = tiny_run()
    run.model = Relu().model(run.model, run)
    with pytest.raises(NoEffect, match="ReLU"):
        Relu().model(run.model, run)
