import copy

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.modules import dropout
from harness.tricks.regularization.dropout import Dropout


class TestDropout(TrickConformance):
    trick = Dropout


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def applied(**params):
    run = tiny_run()
    run.model = Dropout(**params).model(run.model, run)
    return run


def test_units_are_zero_or_scaled_and_the_mean_stays():
    x = torch.ones(1000, 100)
    out = dropout(x, 0.2, generator())

    assert set(out.unique().tolist()) == {0.0, 1.25}
    kept = (out != 0).float().mean()
    assert abs(kept - 0.8) < 5 * (0.2 * 0.8 / 1e5) ** 0.5
    assert abs(out.mean() - 1) < 0.01


def test_channels_are_dropped_whole():
    out = dropout(torch.ones(50, 20, 4, 4), 0.5, generator(), whole_channels=True).flatten(2)
    assert torch.equal(out, out[..., :1].expand_as(out))
    assert 0.4 < (out == 0).float().mean() < 0.6


def test_p_zero_is_the_identity():
    x = torch.randn(5, 7, generator=generator())
    assert torch.equal(dropout(x, 0.0, generator()), x)


def test_the_head_sees_dropped_features():
    run = applied(p=0.5)
    x = tiny_batch().x
    seen = []
    run.model.head.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    run.model.eval()
    run.model(x)
    run.model.train()
    for module in run.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # so that features differ by dropout alone
    run.model(x)
    plain, dropped = seen

    assert torch.all((dropped == 0) | torch.isclose(dropped, 2 * plain))
    assert 0.2 < (dropped == 0).float().mean() < 0.8


@pytest.mark.parametrize("place", ["head", "block"])
def test_evaluation_ignores_it_and_training_does_not(place):
    run, plain = applied(place=place, p=0.5), tiny_run()
    x = tiny_batch().x

    assert torch.equal(run.model.eval()(x), plain.model.eval()(x))
    assert not torch.allclose(run.model.train()(x), plain.model.train()(x))
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()


def test_block_drops_between_the_two_convolutions_of_every_block():
    run = applied(place="block", p=0.5, kind="channel")
    hidden = []
    blocks = [m for m in run.model.modules() if hasattr(m, "shortcut")]
    for block in blocks:
        block.conv2.register_forward_pre_hook(lambda _m, args: hidden.append(args[0].detach()))
    run.model.train()(torch.rand(64, 1, 8, 8, generator=generator()))

    assert len(hidden) == len(blocks) == 2
    for h in hidden:
        dropped = (h == 0).flatten(2).all(2).float().mean()
        assert 0.4 < dropped < 0.7


def test_draws_come_from_the_runs_stream_only():
    first, second = applied(p=0.5), applied(p=0.5)
    x = tiny_batch().x
    state = torch.get_rng_state()

    assert torch.equal(first.model.train()(x), second.model.train()(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first.model(x), first.model(x))


def test_copies_of_the_network_work_and_follow_their_own_mode():
    run = applied(p=0.5)
    clone = copy.deepcopy(run.model).eval()
    x = tiny_batch().x
    run.model.train()
    before = run.rng("dropout").get_state()

    assert torch.equal(clone(x), clone(x))
    assert torch.equal(run.rng("dropout").get_state(), before)
    assert not torch.equal(clone.train()(x), clone(x))


def test_block_needs_residual_blocks():
    run = tiny_run()
    run.model.net = torch.nn.Sequential()
    run.model.net.add_module("head", torch.nn.Linear(2, 2))
    with pytest.raises(NoEffect, match="residual blocks"):
        Dropout(place="block").model(run.model, run)
