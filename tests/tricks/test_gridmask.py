from dataclasses import replace

import pytest
import torch

from draws import assert_independent, assert_share, assert_uniform, recorded
from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.augment import gridmask as module
from harness.tricks.augment.gridmask import GridMask, grid


class TestGridMask(TrickConformance):
    trick = GridMask


def one(value):
    return torch.tensor([float(value)])


def test_grid_by_hand():
    """Units of 4 pixels of which half of each side is hidden, one row and two columns before the image."""
    mask = grid((6, 8), one(4), 0.5, one(1), one(2))[0]
    rows = torch.tensor([1, 0, 0, 1, 1, 0]).bool()
    columns = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]).bool()
    assert torch.equal(mask, rows[:, None] & columns)


@pytest.mark.parametrize("ratio", [0.6, 0.4])
def test_the_share_that_stays_is_that_of_the_formula(ratio):
    """Over whole units; the paper's k = 1 - (1 - r)^2."""
    mask = grid((100, 100), one(20), 1 - ratio, one(7), one(3))
    assert float((~mask).float().mean()) == pytest.approx(1 - (1 - ratio) ** 2)


def test_squares_are_filled_with_the_mean_or_black():
    run, batch = tiny_run(size=32), tiny_batch(64, size=32)
    batch = replace(batch, x=batch.x * 0.4 + 0.05)
    for fill, value in (("mean", 0.5), ("black", 0.0)):
        x = GridMask(prob=1.0, ramp=0.0, fill=fill).batch(batch, run).x
        hidden = x == value
        assert torch.equal(x[~hidden], batch.x[~hidden])
        assert abs(float(hidden.float().mean()) - 0.16) < 0.03


@pytest.mark.parametrize(("params", "low", "high"), [({}, 0.43, 1.0), ({"d_min": 0.2, "d_max": 0.5}, 0.2, 0.5)])
def test_units_and_offsets_are_drawn_for_each_image(params, low, high, monkeypatch):
    calls = recorded(monkeypatch, module, "grid")
    GridMask(**params).batch(tiny_batch(2000, size=16), tiny_run(size=16))
    ((size, unit, hidden, down, right),) = calls

    assert (size, hidden) == ((16, 16), pytest.approx(0.4))
    assert_uniform(unit / 16, low, high)
    for offset in (down, right):
        assert_uniform(offset / unit, 0, 1)
    assert_independent(unit, down / unit, right / unit)


@pytest.mark.parametrize(
    ("progress", "params", "chance"),
    [
        (0.0, {}, 0.0),
        (0.4, {}, 0.4),
        (0.8, {}, 0.8),
        (0.95, {}, 0.8),
        (0.0, {"ramp": 0.0}, 0.8),
        (0.25, {"prob": 0.6, "ramp": 1.0}, 0.15),
    ],
)
def test_the_probability_grows_to_its_end(progress, params, chance):
    trick = GridMask(**params)
    assert trick.chance(progress) == pytest.approx(chance)
    run, batch = tiny_run(size=16), tiny_batch(2000, size=16)
    run.step = round(progress * run.total_steps)
    out = trick.batch(batch, run).x
    changed = (out != batch.x).flatten(1).any(1)
    assert_share(changed, trick.chance(run.progress))


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(UserError, match=r"d_min = 0\.8 exceeds d_max = 0\.5"):
        registry.make("gridmask", {"d_min": 0.8, "d_max": 0.5})
