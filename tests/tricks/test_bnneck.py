import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.bnneck import Bnneck
from harness.tricks.contract import NoEffect, NotApplicable


class TestBnneck(TrickConformance):
    trick = Bnneck


def applied(name="digits_resnet", **recipe):
    ours = not name.startswith("timm")
    run = tiny_run(channels=1 if ours else 3, size=8 if ours else 32, model=name, width=4 if ours else None, **recipe)
    run.model = Bnneck().model(run.model, run)
    return run


@pytest.mark.parametrize("name", ["digits_resnet", "timm/resnet18"])
def test_logits_by_hand(name):
    run = applied(name)
    weight = run.model.head[1].weight
    with torch.no_grad():
        run.model.head[0].weight.fill_(2.0)
        x = tiny_batch(channels=run.data.channels, size=run.data.size).x
        logits, features = run.model.train().forward_with_features(x)
        variance, mean = torch.var_mean(features, 0, correction=0)
        expected = 2 * (features - mean) / (variance + 1e-5).sqrt() @ weight.T
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_features_are_the_baselines_and_so_are_the_weights():
    run, plain = applied(), tiny_run()
    x = tiny_batch().x
    assert torch.equal(run.model.train().forward_with_features(x)[1], plain.model.train().forward_with_features(x)[1])
    assert torch.equal(run.model.head[1].weight, plain.model.head.weight)


def test_the_shift_stays_zero():
    run = applied()
    optimizer = torch.optim.SGD([p for p in run.model.parameters() if p.requires_grad], lr=1.0)
    run.model.train()(tiny_batch().x).square().mean().backward()
    optimizer.step()

    assert torch.equal(run.model.head[0].bias, torch.zeros(8))
    assert run.model.head[1].bias is None
    assert not torch.equal(run.model.head[0].weight, torch.ones(8))


def test_batches_of_one_and_other_heads_are_refused():
    with pytest.raises(NotApplicable, match="two images"):
        applied(batch_size=1)
    run = tiny_run()
    run.model.net.head = nn.Identity()
    with pytest.raises(NoEffect, match="linear head"):
        Bnneck().model(run.model, run)
