import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.transfer.progressive_resizing import ProgressiveResizing, side


class TestProgressiveResizing(TrickConformance):
    trick = ProgressiveResizing


def sides(trick, run):
    """Side of every batch of the training that reaches the network."""
    batch, out = tiny_batch(size=run.data.size, n=2), []
    for step in range(run.total_steps):
        run.step = step
        resized = trick.batch(batch, run)
        assert torch.equal(resized.y, batch.y)
        out.append((run.progress, resized.x.shape[-1]))
    return out


def test_schedule_by_hand():
    trick = ProgressiveResizing(initial_scale=0.5, delay=0.4, finetune=0.2)
    for progress, scale in ((0.0, 0.5), (0.4, 0.5), (0.5, 0.625), (0.6, 0.75), (0.7, 0.875), (0.8, 1.0), (0.99, 1.0)):
        assert trick.scale(progress) == pytest.approx(scale)


@pytest.mark.parametrize(
    ("size", "scale", "increment", "pixels"),
    [(32, 0.5, 0.125, 16), (32, 0.56, 0.125, 16), (32, 0.57, 0.125, 20), (8, 0.5, 0.25, 4), (8, 0.7, 0.25, 6),
     (28, 1.0, 0.125, 28), (8, 0.01, 0.125, 1), (33, 0.99, 0.125, 32)],
)  # fmt: skip
def test_sides_are_multiples_of_the_increment(size, scale, increment, pixels):
    assert side(size, scale, increment) == pixels


@pytest.mark.parametrize("size", [8, 32])
def test_sides_grow_from_half_to_full_and_stay(size):
    trick, run = ProgressiveResizing(), tiny_run(size=size)
    history = sides(trick, run)
    pixels = [p for _, p in history]

    assert pixels == sorted(pixels)
    assert all(p % (size // 8) == 0 for p in pixels)
    assert all(p == size // 2 for progress, p in history if progress <= 0.5)
    assert all(p == size for progress, p in history if progress >= 0.8)
    assert len(set(pixels)) > 3


def test_halving_keeps_a_constant_image_and_the_mean():
    run, batch = tiny_run(size=16), tiny_batch(size=16)
    out = ProgressiveResizing().batch(batch, run)
    assert out.x.shape[-2:] == (8, 8)
    torch.testing.assert_close(out.x.mean((2, 3)), batch.x.mean((2, 3)), atol=0.02, rtol=0)


def test_full_size_is_the_same_batch():
    run, batch = tiny_run(), tiny_batch()
    run.step = run.total_steps - 1
    assert ProgressiveResizing().batch(batch, run) is batch


def test_a_scale_that_rounds_to_one_is_refused():
    with pytest.raises(NoEffect, match="full size"):
        ProgressiveResizing(initial_scale=0.97).prepare(tiny_run())


def test_networks_of_one_size_are_refused():
    run = tiny_run()
    run.model.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(NotApplicable, match="4 pixels a side"):
        ProgressiveResizing().prepare(run)
    assert run.model.training


def test_shares_must_fit():
    with pytest.raises(ValidationError, match="exceeds one"):
        ProgressiveResizing(delay=0.7, finetune=0.5)
