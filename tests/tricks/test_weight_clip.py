import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.regularization.weight_clip import WeightClip, clip


class TestWeightClip(TrickConformance):
    trick = WeightClip


class TestAll(TrickConformance):
    trick = WeightClip
    params = {"scope": "all", "c": 0.5}  # noqa: RUF012


class TestTooWide(TrickConformance):
    trick = WeightClip
    params = {"c": 1e3}  # noqa: RUF012
    unfit = True


def step(run, trick):
    """One update of the run with its SGD optimizer."""
    optimizer = trick.wrap_optimizer(run.optimizer, run)
    batch = tiny_batch()
    soft_cross_entropy(run.model(batch.x), batch.y).mean().backward()
    optimizer.step()


def test_by_hand():
    weights = [torch.tensor([-3.0, 0.5]), torch.tensor([[0.2, 2.0]])]
    assert clip(weights, 1.0)
    torch.testing.assert_close(weights, [torch.tensor([-1.0, 0.5]), torch.tensor([[0.2, 1.0]])])
    assert not clip(weights, 1.0)


@pytest.mark.parametrize("scope", ["head", "all"])
def test_after_a_step_all_weights_in_scope_are_the_baselines_cut_to_the_range(scope):
    run, plain = tiny_run(), tiny_run()
    step(run, WeightClip(c=0.1, scope=scope))
    batch = tiny_batch()
    soft_cross_entropy(plain.model(batch.x), batch.y).mean().backward()
    plain.optimizer.step()
    outside = set(plain.model.parameters()) - (set(plain.model.head.parameters()) if scope == "head" else set())

    assert any(p.abs().max() > 0.1 for p in plain.model.head.parameters())
    for own, baseline in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        untouched = scope == "head" and baseline in outside
        assert torch.equal(own, baseline if untouched else baseline.clamp(-0.1, 0.1))


def test_a_range_that_was_never_left_is_reported():
    run, trick = tiny_run(), WeightClip(c=50.0)
    step(run, trick)
    with pytest.raises(NoEffect, match="50"):
        trick.finalize(run.model, run)
    run, trick = tiny_run(), WeightClip(c=0.1)
    step(run, trick)
    assert trick.finalize(run.model, run) is run.model


def test_wants_something_to_clip():
    run = tiny_run()
    run.model.net.set_submodule(run.model.head_path, nn.Identity())
    with pytest.raises(NoEffect, match="head"):
        WeightClip().wrap_optimizer(run.optimizer, run)
