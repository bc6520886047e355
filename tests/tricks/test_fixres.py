import pytest

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.evaluation.fixres import Fixres
from harness.tricks.modules import batch_norms


class TestFixres(TrickConformance):
    trick = Fixres


def test_small_images_first_then_head_and_last_norm_at_full_size():
    run, trick = tiny_run(epochs=10), Fixres(scale=0.5, tune=0.2)
    sides, trained, live = [], [], []
    for run.epoch in range(10):
        run.model.train()
        trick.epoch_start(run)
        sides.append(trick.batch(tiny_batch(), run).x.shape[-1])
        trained.append({name for name, p in run.model.named_parameters() if p.requires_grad})
        live.append([norm.training for norm in batch_norms(run.model)])

    assert sides == [4] * 8 + [8] * 2
    assert trained[7] == {name for name, _ in run.model.named_parameters()}
    last = "net.stage2.0.shortcut.1"  # the last norm of the network as it is registered
    assert trained[8] == {"net.head.weight", "net.head.bias", f"{last}.weight", f"{last}.bias"}
    assert live[7] == [True] * len(live[0])
    assert live[8] == [False] * (len(live[0]) - 1) + [True]


def test_at_least_one_epoch_is_tuned_and_one_is_not():
    assert Fixres(tune=0.01).first(tiny_run(epochs=5)) == 4
    with pytest.raises(NotApplicable, match="leave none"):
        Fixres().prepare(tiny_run(epochs=1))
    with pytest.raises(NoEffect, match="the full size"):
        Fixres(scale=0.97).prepare(tiny_run())
