import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.modules import batch_norms
from harness.tricks.regularization.precise_bn import PreciseBn


class TestPreciseBn(TrickConformance):
    trick = PreciseBn


def test_predicts_as_one_batch_that_normalises_itself():
    """One batch of all images: its own statistics, but for the unbiased variance, are the precise ones."""
    run = tiny_run(batch_size=80)
    x = run.train.images.permute(0, 3, 1, 2).float() / run.train.peak
    with torch.inference_mode():
        precise = PreciseBn().predictor(run.model.eval(), run)(x)
        own = run.model.train()(x)
    torch.testing.assert_close(precise, own, rtol=2e-2, atol=2e-2)


def test_running_statistics_are_as_before_while_and_after():
    run = tiny_run()
    run.model.train()(torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    run.model.eval()
    before = {name: t.clone() for name, t in run.model.state_dict().items()}
    seen = []
    predict = PreciseBn(batches=2).predictor(lambda x: seen.append(batch_norms(run.model)[0].running_mean.clone()), run)
    assert all(torch.equal(before[name], t) for name, t in run.model.state_dict().items())
    predict(torch.zeros(1))
    assert not torch.equal(seen[0], before["net.stem.1.running_mean"])
    assert all(torch.equal(before[name], t) for name, t in run.model.state_dict().items())


def test_statistics_are_means_over_the_batches_asked_for():
    run = tiny_run()
    stem = run.model.net.stem
    seen = []
    predict = PreciseBn(batches=2).predictor(lambda x: seen.append(stem[1].running_mean.clone()), run)
    predict(torch.zeros(1))
    x = run.train.images.permute(0, 3, 1, 2).float() / run.train.peak
    with torch.no_grad():
        maps = stem[0](run.model.normalize(x[:16]))
    torch.testing.assert_close(seen[0], maps.mean((0, 2, 3)))


def test_networks_without_statistics_are_refused():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="running statistics"):
        PreciseBn().prepare(run)
