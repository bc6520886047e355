import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.modules import batch_norms, plain_batches, recompute_statistics
from harness.tricks.regularization.lawa import Lawa


class TestLawa(TrickConformance):
    trick = Lawa


def filled(model, value):
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)


def test_the_last_k_epochs_are_averaged_and_older_ones_fall_out():
    run, trick = tiny_run(), Lawa(k=3)
    trick.prepare(run)
    assert trick.evaluation_weights(run) is run.model
    for value in (1.0, 2.0, 3.0, 10.0):
        filled(run.model, value)
        trick.epoch_end(run)
    filled(run.model, 99.0)
    averaged = trick.evaluation_weights(run)

    assert all(torch.allclose(p, torch.full_like(p, 5.0)) for p in averaged.parameters())
    assert all(float(p.detach().flatten()[0]) == 99.0 for p in run.model.parameters())


def test_batch_statistics_are_those_of_the_mean():
    run, trick = tiny_run(), Lawa(k=2)
    trick.prepare(run)
    for _ in range(2):
        trick.epoch_end(run)
    averaged, expected = trick.evaluation_weights(run), tiny_run().model
    recompute_statistics(expected, plain_batches(run))
    for ours, theirs in zip(batch_norms(averaged), batch_norms(expected), strict=True):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_one_epoch_is_refused():
    with pytest.raises(NotApplicable, match="a mean needs two"):
        Lawa().prepare(tiny_run(epochs=1))
