import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.evaluation.train_resolution import TrainResolution


class TestTrainResolution(TrickConformance):
    trick = TrainResolution


def test_training_batches_are_smaller_and_keep_their_mean():
    batch = tiny_batch()
    small = TrainResolution(scale=0.5).batch(batch, tiny_run())
    assert small.x.shape == (8, 1, 4, 4)
    torch.testing.assert_close(TrainResolution(scale=0.75).batch(batch, tiny_run()).x.shape, torch.Size((8, 1, 6, 6)))
    flat = TrainResolution(scale=0.5).batch(tiny_batch(), tiny_run()).x
    torch.testing.assert_close(flat.mean(), batch.x.mean(), rtol=0.05, atol=0)
    assert torch.equal(small.y, batch.y)


def test_a_scale_that_rounds_to_the_full_size_is_refused():
    with pytest.raises(NoEffect, match="the full size"):
        TrainResolution(scale=0.97).prepare(tiny_run())
