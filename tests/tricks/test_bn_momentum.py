import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.bn_momentum import BnMomentum
from harness.tricks.contract import NoEffect


class TestBnMomentum(TrickConformance):
    trick = BnMomentum


def test_running_statistics_follow_the_closed_form():
    run, x = tiny_run(), tiny_batch().x
    model = BnMomentum(momentum=0.3).model(run.model, run).train()
    for _ in range(3):
        model(x)
    with torch.no_grad():
        mean = model.net.stem[0](model.normalize(x)).mean((0, 2, 3))
    torch.testing.assert_close(model.net.stem[1].running_mean, (1 - 0.7**3) * mean)


def test_training_is_as_before_and_the_baselines_value_is_refused():
    run, plain, x = tiny_run(), tiny_run(), tiny_batch().x
    assert torch.equal(BnMomentum().model(run.model, run).train()(x), plain.model.train()(x))
    with pytest.raises(NoEffect, match="the baseline's"):
        BnMomentum(momentum=0.1).model(plain.model, plain)
