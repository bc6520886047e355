from dataclasses import replace

import pytest
import torch

from draws import assert_independent, assert_share
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.hide_and_seek import HideAndSeek
from harness.tricks.contract import NotApplicable


class TestHideAndSeek(TrickConformance):
    trick = HideAndSeek


def hidden(n=1000, side=8, value=0.5, channels=1, **params):
    """Which pixels are hidden, of images that have no pixel of that value."""
    batch = tiny_batch(n, channels=channels, size=side)
    batch = replace(batch, x=batch.x * 0.4 + 0.05)
    out = HideAndSeek(**params).batch(batch, tiny_run(size=side, channels=channels)).x
    mask = out == value
    assert torch.equal(out[~mask], batch.x[~mask])
    assert bool((mask == mask[:, :1]).all())
    return mask[:, 0]


@pytest.mark.parametrize(("params", "grid", "p"), [({}, 4, 0.5), ({"grid": 2, "p": 0.2}, 2, 0.2), ({"p": 1.0}, 4, 1.0)])
def test_each_cell_is_hidden_with_probability_p_by_itself(params, grid, p):
    mask = hidden(channels=3, **params)
    cells = mask.unflatten(1, (grid, -1)).unflatten(3, (grid, -1)).transpose(2, 3).flatten(3)
    assert bool((cells.all(3) == cells.any(3)).all())
    whole = cells.all(3)
    assert_share(whole, p)
    assert p == 1 or assert_independent(whole[:, 0, 0], whole[:, 0, 1], whole[:, 1, 0], whole[:, 1, 1]) is None


def test_sides_that_the_grid_does_not_divide_are_covered():
    assert bool(hidden(n=2, side=10, p=1.0).all())
    rows = hidden(n=200, side=10, p=0.5, grid=4)[:, :, 0]
    assert set((rows[:, 1:] != rows[:, :-1]).any(0).nonzero()[:, 0].tolist()) == {2, 4, 7}


def test_black_can_take_the_place_of_the_mean():
    assert_share(hidden(value=0.0, fill="black")[:, 0, 0], 0.5)


def test_refuses_cells_smaller_than_a_pixel():
    with pytest.raises(NotApplicable, match="grid = 9 is more cells than the 8 pixels"):
        HideAndSeek(grid=9).prepare(tiny_run())
    HideAndSeek(grid=8).prepare(tiny_run())
