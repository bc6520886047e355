import math

import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.activations import Activations
from harness.tricks.contract import NotApplicable


class TestActivations(TrickConformance):
    trick = Activations


def found(**params):
    run = tiny_run()
    model = Activations(**params).model(run.model, run)
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    return model.net.stem[2]


@pytest.mark.parametrize(
    ("act", "at_one"),
    [
        ("gelu", 0.5 * (1 + math.erf(2**-0.5))),
        ("silu", 1 / (1 + math.exp(-1))),
        ("mish", math.tanh(math.log(1 + math.e))),
        ("hardswish", 4 / 6),
        ("celu", 1.0),
    ],
)
def test_by_hand_and_at_the_limits(act, at_one):
    layer = found(act=act)
    assert float(layer(torch.tensor(1.0))) == pytest.approx(at_one)
    assert float(layer(torch.tensor(50.0))) == pytest.approx(50.0)
    assert float(layer(torch.tensor(-50.0))) == pytest.approx(-0.3 if act == "celu" else 0.0, abs=1e-6)


def test_alpha_is_celus_alone():
    assert float(found(act="celu", alpha=0.5)(torch.tensor(-50.0))) == pytest.approx(-0.5)
    run = tiny_run()
    with pytest.raises(NotApplicable, match="belongs to act = 'celu'"):
        Activations(act="gelu", alpha=0.5).model(run.model, run)
