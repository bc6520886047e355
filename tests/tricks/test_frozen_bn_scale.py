import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.frozen_bn_scale import FrozenBnScale
from harness.tricks.contract import NoEffect
from harness.tricks.modules import batch_norms


class TestFrozenBnScale(TrickConformance):
    trick = FrozenBnScale

    def test_scales_stay_one_and_shifts_learn(self):
        session = self._session()
        batch = next(iter(session.loader.epoch()))
        session.step(batch)
        norms = batch_norms(session.run.model.train())
        assert norms
        assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) for norm in norms)
        assert any(bool(norm.bias.any()) for norm in norms)
        trained = {p for group in session.run.optimizer.param_groups for p in group["params"]}
        assert not any(norm.weight in trained for norm in norms)
        assert all(norm.bias in trained for norm in norms)


def test_networks_without_such_norms_are_refused():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="batch norms with a scale"):
        FrozenBnScale().model(run.model, run)
