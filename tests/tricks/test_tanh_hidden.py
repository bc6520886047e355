import math

import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.tanh_hidden import TanhHidden


class TestTanhHidden(TrickConformance):
    trick = TanhHidden


def applied(**params):
    run = tiny_run(width=32)
    trick = TanhHidden(**params)
    run.model = trick.model(run.model, run)
    trick.init(run.model, run)
    return run.model


def test_hidden_values_are_bounded_and_the_slope_at_zero_is_one():
    model = applied()
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Tanh):
            module.register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))
    model(tiny_batch().x)

    assert len(seen) == 5
    for before, after in seen:
        assert after.abs().max() <= 1
        torch.testing.assert_close(after, torch.tanh(before))
    act = next(m for m in model.modules() if isinstance(m, nn.Tanh))
    torch.testing.assert_close(act(torch.tensor([1e-3, -1e-3])), torch.tensor([1e-3, -1e-3]), atol=1e-8, rtol=0)


def test_deviation_is_xaviers_with_the_gain():
    weight = applied(gain=1.5).net.stage2[0].conv1.weight  # 32 to 64 channels, 3x3
    std = 1.5 * math.sqrt(2 / (9 * (32 + 64)))

    assert abs(weight.std() / std - 1) < 0.03
    assert abs(weight.mean()) < 5 * std / weight.numel() ** 0.5


def test_head_and_norms_keep_the_baseline():
    plain = tiny_run(width=32).model
    changed = {
        name
        for (name, a), b in zip(applied().named_parameters(), plain.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {name for name, p in plain.named_parameters() if p.ndim == 4}
