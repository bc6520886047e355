from dataclasses import replace

import pytest
import torch

from draws import assert_share
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.augment.colout import ColOut, kept, lines
from harness.tricks.contract import NoEffect


class TestColOut(TrickConformance):
    trick = ColOut


@pytest.mark.parametrize(
    ("side", "p", "left"), [(8, 0.15, 6), (224, 0.15, 190), (8, 0.0, 8), (32, 0.5, 16), (8, 0.99, 1)]
)
def test_lines_that_stay_by_hand(side, p, left):
    assert kept(side, p) == left


def test_lines_that_stay_keep_their_order_and_are_chosen_evenly():
    g = torch.Generator().manual_seed(0)
    chosen = torch.stack([lines(8, 0.25, g, torch.device("cpu")) for _ in range(2000)])
    assert bool((chosen.diff(dim=1) > 0).all())
    for line in range(8):
        assert_share((chosen == line).any(1), 6 / 8)


def test_rows_and_columns_leave_and_the_rest_is_unchanged():
    """Pixels that say where they were."""
    batch = tiny_batch(4, channels=3, size=16)
    place = (torch.arange(16.0)[:, None] * 100 + torch.arange(16.0)).expand(4, 3, 16, 16)
    out = ColOut(p_row=0.25, p_col=0.5).batch(replace(batch, x=place), tiny_run(size=16)).x

    assert out.shape == (4, 3, 12, 8)
    rows, columns = out[0, 0, :, 0] // 100, out[0, 0, 0] % 100
    assert torch.equal(out, (rows[:, None] * 100 + columns).expand(4, 3, 12, 8))
    assert len(set(rows.tolist())) == 12
    assert len(set(columns.tolist())) == 8


def test_each_batch_has_lines_of_its_own():
    run, batch, trick = tiny_run(size=16), tiny_batch(2, size=16), ColOut()
    assert not torch.equal(trick.batch(batch, run).x, trick.batch(batch, run).x)


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_refuses_to_leave_nothing_out(p):
    run = tiny_run(size=8)
    if p:
        ColOut(p_row=p).prepare(run)
    else:
        with pytest.raises(NoEffect, match="leave no line of 8 pixels"):
            ColOut(p_row=p, p_col=p).prepare(run)
