import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.concat_pool import ConcatPool, concat_pool
from harness.tricks.contract import NoEffect, NotApplicable


class TestConcatPool(TrickConformance):
    trick = ConcatPool


def net(name):
    ours = not name.startswith("timm")
    run = tiny_run(channels=1 if ours else 3, size=32, model=name, width=4 if ours else None)
    x = tiny_batch(channels=run.data.channels, size=32).x
    return run, x


def test_by_hand():
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0], [-4.0, -3.0, -2.0, -1.0]]).view(1, 2, 2, 2)
    assert torch.equal(concat_pool(x), torch.tensor([[6.0, -1.0, 3.0, -2.5]]))


@pytest.mark.parametrize("name", ["digits_resnet", "timm/resnet18"])
def test_a_head_blind_to_the_maxima_gives_the_baselines_logits(name):
    run, x = net(name)
    old = run.model.head
    with torch.no_grad():
        expected = run.model.eval()(x)
        model = ConcatPool().model(run.model, run)
        c = old.in_features
        assert model.head.in_features == 2 * c
        model.head.weight.copy_(torch.cat([torch.zeros_like(old.weight), old.weight], 1))
        model.head.bias.copy_(old.bias)
        torch.testing.assert_close(model.eval()(x), expected)


def test_the_new_head_is_drawn_from_the_tricks_stream_in_torchs_range():
    heads = []
    state = torch.get_rng_state()
    for seed in (0, 0, 1):
        run = tiny_run(seed=seed)
        heads.append(ConcatPool().model(run.model, run).head)
    bound = 1 / 16**0.5  # twice eight channels

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert 0.9 * bound < heads[0].weight.abs().max() <= bound


def test_everything_but_the_head_keeps_the_baseline():
    run, plain = tiny_run(), tiny_run()
    own = dict(ConcatPool().model(run.model, run).named_parameters())
    kept = {name for name, p in plain.model.named_parameters() if torch.equal(own[name], p)}
    assert set(own) - kept == {"net.head.weight", "net.head.bias"}


def test_models_without_a_pooling_module_are_refused():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten())
    run.model.net.add_module("head", nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="pooling"):
        ConcatPool().model(run.model, run)


def test_layers_between_pooling_and_head_are_refused():
    run = tiny_run()
    run.model.net.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 10))
    run.model.head_path = "head.1"
    with pytest.raises(NotApplicable, match="twice the width"):
        ConcatPool().model(run.model, run)
