import copy

import pytest
import torch
from torch import nn

from harness.models.build import build
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run, tiny_spec
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.efficiency.inference_fusion import InferenceFusion, fuse, pairs


class TestInferenceFusion(TrickConformance):
    trick = InferenceFusion


def lively(model):
    """A network whose norms and statistics are not those of the start."""
    g = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                t.data.copy_(0.5 + torch.rand(t.shape, generator=g))
    return model.eval()


def test_by_hand():
    """w = 2, gamma = 3, mean = 1, var = 4, beta = 5: 3 (2 x - 1) / 2 + 5 = 3 x + 3.5."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)).requires_grad_(False)
    conv, norm = net
    for t, value in ((conv.weight, 2), (norm.weight, 3), (norm.running_mean, 1), (norm.running_var, 4), (norm.bias, 5)):
        t.fill_(value)
    assert fuse(net) == 1
    torch.testing.assert_close(net[0].weight.flatten(), torch.tensor([3.0]))
    torch.testing.assert_close(net[0].bias, torch.tensor([3.5]))
    assert isinstance(net[1], nn.Identity)


@pytest.mark.parametrize(
    ("name", "count"), [("digits_resnet", 6), ("resnet20", 21), ("timm/resnet18", 20), ("timm/resnet50", 53)]
)
def test_outputs_stay_equal_on_our_networks_and_timms(name, count):
    spec = tiny_spec(model="digits_resnet").model.model_copy(update={"name": name, "width": None})
    model = lively(build(spec, tiny_info(channels=3, size=32), 0)).double()
    plain = copy.deepcopy(model)
    x = tiny_batch(4, channels=3, size=32).x.double()

    assert fuse(model) == count
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x))


def test_the_trained_network_itself_is_left_alone():
    run = tiny_run()
    lively(run.model)
    fused = InferenceFusion().finalize(run.model, run)
    assert len(pairs(run.model)) == 6
    assert not pairs(fused)
    x = tiny_batch().x
    with torch.no_grad():
        torch.testing.assert_close(fused(x), run.model(x), rtol=1e-4, atol=1e-5)


class Crossed(nn.Module):
    """Registered as convolution and norm, but run the other way round."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(x)).mean((2, 3))


def test_the_gate_refuses_a_network_that_changes():
    run = tiny_run(channels=3)
    model = lively(Crossed())
    with pytest.raises(NotApplicable, match="off by"):
        InferenceFusion().finalize(model, run)


def test_nothing_to_fuse_is_refused_before_training():
    run = tiny_run()
    InferenceFusion().prepare(run)
    fuse(run.model)
    with pytest.raises(NoEffect, match="has none"):
        InferenceFusion().prepare(run)
