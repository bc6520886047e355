import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import effective_weights
from harness.tricks.losses.deferred_reweighting import DeferredReweighting


class TestDeferredReweighting(TrickConformance):
    trick = DeferredReweighting
    data = {"imbalance": 0.2}  # noqa: RUF012
    params = {"start": 0.5}  # noqa: RUF012 (of four updates)


def test_weights_by_hand_from_their_start_on():
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(2, 1)))
    batch, trick = tiny_batch(2, classes=2), DeferredReweighting(start=0.5, beta=0.5)
    found = []
    for run.step in (49, 50):
        found.append(trick.example_weights(batch, torch.zeros(2, 2), run).tolist())
    assert found[0] == [1.0, 1.0]
    assert found[1] == pytest.approx([0.8, 1.2])  # 0.5 / 0.75 against 1, scaled to the sum 2
    assert sum(effective_weights((5, 50, 500), 0.99)) == pytest.approx(3.0)


def test_what_would_be_the_baseline_is_refused():
    with pytest.raises(NoEffect, match="equally frequent"):
        DeferredReweighting().prepare(tiny_run())
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(2, 1)))
    with pytest.raises(NoEffect, match="after the last"):
        DeferredReweighting(start=0.995).prepare(run)
