import numpy as np
import pytest
import torch

from draws import assert_drawn, assert_independent
from harness.data.types import TrainingSet
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.pca_lighting import PcaLighting, axes


class TestPcaLighting(TrickConformance):
    trick = PcaLighting


def test_axes_by_hand():
    """Variance 1 along (1, 1), (2 * 2) / 4, and 0.25 across it, (2 * 0.5) / 4."""
    pixels = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [0.5, -0.5], [-0.5, 0.5]]).double()
    found = axes(pixels)

    assert torch.linalg.vector_norm(found, dim=0).tolist() == pytest.approx([0.25, 1.0])
    assert abs(float(found[0, 1])) == pytest.approx(0.5**0.5)
    assert float(found[0, 1]) == pytest.approx(float(found[1, 1]))
    assert float(found[:, 0] @ found[:, 1]) == pytest.approx(0.0, abs=1e-12)


def prepared(std, channels=3):
    run = tiny_run(channels=channels)
    host = np.random.default_rng(0)
    grey = host.integers(0, 200, (60, 8, 8, 1))
    images = (grey + host.integers(0, 50, (60, 8, 8, channels))).astype("uint8")
    run.train = TrainingSet(torch.from_numpy(images), torch.arange(60) % 10, torch.arange(60))
    trick = PcaLighting(std=std)
    trick.prepare(run)
    return run, trick, images.reshape(-1, channels) / 255


@pytest.mark.parametrize("std", [0.1, 0.5])
def test_each_image_moves_along_the_axes_by_its_own_draws(std):
    run, trick, pixels = prepared(std)
    batch = tiny_batch(3000, channels=3)
    moved = trick.batch(batch, run).x - batch.x
    shift = moved.mean((2, 3)).double().numpy()

    torch.testing.assert_close(moved, moved[..., :1, :1].expand_as(moved), atol=1e-6, rtol=0)
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    drawn = shift @ vectors / values
    for one in drawn.T:
        assert_drawn(one / std, lambda v: torch.special.ndtr(torch.from_numpy(v)).numpy())
    assert_independent(*drawn.T)


def test_one_channel_has_one_axis():
    run, _, pixels = prepared(0.1, channels=1)
    assert abs(float(run.state["pca_lighting"])) == pytest.approx(float(pixels.var()), rel=1e-5)


def test_std_zero_is_the_identity():
    run, trick, _ = prepared(0.0)
    batch = tiny_batch(channels=3)
    assert torch.equal(trick.batch(batch, run).x, batch.x)
