from dataclasses import replace

import pytest
import torch

from draws import assert_independent, assert_share, assert_uniform, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.images import cells
from harness.tricks.mixing import gridmix as module
from harness.tricks.mixing.gridmix import GridMix, smallest


class TestGridMix(TrickConformance):
    trick = GridMix


def test_cells_by_hand():
    scores = torch.tensor([[[0.1, 0.9], [0.8, 0.2]]])
    mask = cells(smallest(scores, 2), (4, 6))[0]
    assert torch.equal(mask[:2, :3], torch.ones(2, 3).bool())
    assert torch.equal(mask[2:, 3:], torch.ones(2, 3).bool())
    assert int(mask.sum()) == 12


def test_sides_that_the_grid_does_not_divide_are_covered():
    scores = torch.rand(20, 4, 4, generator=torch.Generator().manual_seed(0))
    assert bool(cells(smallest(scores, 16), (10, 7)).all())
    assert not bool(cells(smallest(scores, 0), (10, 7)).any())
    first = cells(smallest(scores, 1), (10, 7))
    assert set(first.sum((1, 2)).tolist()) <= {2 * 1, 2 * 2, 3 * 1, 3 * 2}


def test_each_image_has_cells_of_its_own_and_targets_follow():
    run, batch = tiny_run(), tiny_batch(n=8)
    batch = replace(batch, x=(torch.arange(8.0) / 8).view(-1, 1, 1, 1).expand(8, 1, 8, 8))
    layouts = set()
    for _ in range(30):
        mixed = GridMix().batch(batch, run)
        changed = (mixed.x != batch.x).squeeze(1)
        torch.testing.assert_close(1 - mixed.y[torch.arange(8), batch.label], changed.float().mean((1, 2)))
        layouts |= {tuple(image.flatten().tolist()) for image in changed}
        assert torch.equal(changed[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2), changed)
    assert len(layouts) > 100


@pytest.mark.parametrize(("params", "grid", "prob"), [({}, 4, 1.0), ({"grid": 8, "prob": 0.4}, 8, 0.4)])
def test_areas_and_cells_are_drawn_as_asked(params, grid, prob, monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "smallest"), tiny_run(), tiny_batch(2)
    acted = [GridMix(**params).batch(batch, run) is not batch for _ in range(2000)]
    counts = torch.tensor([count for _, count in calls])
    scores = torch.cat([s for s, _ in calls])

    assert_share(acted, prob)
    assert set(counts.tolist()) == set(range(grid**2 + 1))
    # The ends get half as much of the uniform share as the others, by rounding.
    g = torch.Generator().manual_seed(0)
    inner = counts[(counts > 0) & (counts < grid**2)]
    assert_uniform(inner - 0.5 + torch.rand(len(inner), generator=g), 0.5, grid**2 - 0.5)
    for cell in (scores[:, 0, 0], scores[:, -1, 0]):
        assert_uniform(cell, 0, 1)
    assert_independent(scores[:, 0, 0], scores[:, -1, 0])


def test_refuses_cells_smaller_than_a_pixel():
    with pytest.raises(NotApplicable, match="grid = 9 is more cells than the 8 pixels"):
        GridMix(grid=9).prepare(tiny_run())
    GridMix(grid=8).prepare(tiny_run())
