import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.ohem import Ohem, hardest


class TestOhem(TrickConformance):
    trick = Ohem


def test_by_hand():
    weights = hardest(torch.tensor([1.0, 4.0, 2.0, 3.0]), 0.5)
    assert weights.tolist() == [0.0, 2.0, 0.0, 2.0]
    assert hardest(torch.tensor([1.0, 4.0]), 0.01).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("keep", [0.25, 0.9, 1.0])
def test_the_mean_is_that_of_the_largest_losses(keep):
    losses = torch.rand(20, generator=torch.Generator().manual_seed(0))
    largest = losses.sort(descending=True).values[: round(20 * keep)]
    torch.testing.assert_close((losses * hardest(losses, keep)).mean(), largest.mean())


def test_hardness_is_the_cross_entropy_and_has_no_slope():
    run, batch = tiny_run(), tiny_batch()
    logits = run.model(batch.x)
    weights = Ohem(keep=0.25).example_weights(batch, logits, run)

    assert not weights.requires_grad
    chosen = soft_cross_entropy(logits, batch.y).topk(2).indices
    assert set(weights.nonzero()[:, 0].tolist()) == set(chosen.tolist())
