import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.soft_threshold_act import SoftThresholdAct


class TestSoftThresholdAct(TrickConformance):
    trick = SoftThresholdAct


def activations(tau):
    """Inputs and outputs of every activation of the network."""
    run = tiny_run()
    model = SoftThresholdAct(tau=tau).model(run.model, run)
    assert not any(isinstance(m, nn.ReLU) for m in model.modules())
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Softshrink):
            module.register_forward_hook(lambda _m, args, out: seen.append((args[0].detach(), out.detach())))
    model(tiny_batch().x)
    assert len(seen) == 5
    return seen


def test_by_hand():
    for before, after in activations(0.25):
        torch.testing.assert_close(after, before.sign() * (before.abs() - 0.25).clamp(min=0))


def test_is_the_proximal_map_of_the_absolute_value():
    """argmin_z (z - x)^2 / 2 + tau |z|, on a grid."""
    before, after = activations(0.3)[0]
    x, z = before.flatten()[:200].double(), torch.linspace(-6, 6, 12001, dtype=torch.float64)
    cost = 0.5 * (z - x[:, None]) ** 2 + 0.3 * z.abs()
    torch.testing.assert_close(z[cost.argmin(1)], after.flatten()[:200].double(), atol=1e-3, rtol=0)


def test_threshold_zero_is_the_identity():
    for before, after in activations(0.0):
        assert torch.equal(before, after)
