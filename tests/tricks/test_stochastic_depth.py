import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.regularization.stochastic_depth import StochasticDepth, rates


class TestStochasticDepth(TrickConformance):
    trick = StochasticDepth


def test_rates_by_hand():
    assert rates(4, 0.4, "linear") == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates(4, 0.4, "uniform") == [0.4] * 4


def branches(model, images=2000):
    """The factor on each block's branch, image by image: blocks (B, N), for a branch that would be one everywhere."""
    seen = []
    for block in (m for m in model.modules() if hasattr(m, "shortcut")):
        nn.init.zeros_(block.norm2.weight)
        nn.init.ones_(block.norm2.bias)
        block.norm2.register_forward_hook(lambda _m, _a, out: seen.append(out.detach()))
    model(torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(out, out[:, :1, :1, :1].expand_as(out)) for out in seen)  # whole branches
    return torch.stack([out[:, 0, 0, 0] for out in seen])


def test_whole_branches_are_left_out_at_their_rates_and_keep_their_mean():
    run = tiny_run()
    model = StochasticDepth(rate=0.4).model(run.model, run).train()
    factors = branches(model)

    for row, rate in zip(factors, (0.2, 0.4), strict=True):
        assert row.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
        assert float((row == 0).float().mean()) == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 2000) ** 0.5)
    assert (factors[0] == 0).ne(factors[1] == 0).any()  # each has draws of its own


def test_evaluation_keeps_every_branch():
    run, plain = tiny_run(), tiny_run()
    model = StochasticDepth(rate=0.9).model(run.model, run).eval()
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(model(x), plain.model.eval()(x))


def test_timms_blocks_are_hooked_after_their_last_norm():
    run = tiny_run(channels=3, size=32, model="timm/resnet26", width=None)
    StochasticDepth().model(run.model, run)
    hooked = [name for name, m in run.model.named_modules() if m._forward_hooks]
    assert len(hooked) == 8
    assert all(name.endswith("bn3") for name in hooked)
