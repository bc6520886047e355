import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.regularization.logit_scale import LogitScale


class TestLogitScale(TrickConformance):
    trick = LogitScale


def test_logits_are_scaled_in_both_modes_and_their_order_stays():
    run, plain, x = tiny_run(), tiny_run(), tiny_batch().x
    model = LogitScale(scale=0.25).model(run.model, run)
    for training in (True, False):
        ours, theirs = model.train(training)(x), plain.model.train(training)(x)
        torch.testing.assert_close(ours, 0.25 * theirs)
        assert torch.equal(ours.argsort(), theirs.argsort())


def test_the_default_is_a_ninth():
    assert LogitScale().scale == 1 / 9
