from dataclasses import replace

import pytest
import torch

from draws import assert_beta, assert_share, assert_uniform, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.mixing import cutmix as module
from harness.tricks.mixing.cutmix import Cutmix, box, cutmix
from harness.tricks.mixtures import Box


class TestCutmix(TrickConformance):
    trick = Cutmix


def test_pastes_the_box_and_nothing_else():
    batch = tiny_batch(n=2, channels=3)
    mixed = cutmix(batch, torch.tensor([1, 0]), Box(1, 4, 2, 8))

    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[1:4, 2:8] = True
    assert torch.equal(mixed.x[0][:, inside], batch.x[1][:, inside])
    assert torch.equal(mixed.x[0][:, ~inside], batch.x[0][:, ~inside])
    torch.testing.assert_close(mixed.y[0], (1 - 18 / 64) * batch.y[0] + 18 / 64 * batch.y[1])


def test_box_by_hand():
    assert box((8, 8), keep=0.75, row=4, column=4) == Box(2, 6, 2, 6)  # a quarter of the area: side 4
    assert box((8, 8), keep=0.75, row=0, column=7) == Box(0, 2, 5, 8)  # clipped at the corner
    assert box((16, 8), keep=0.75, row=8, column=4) == Box(4, 12, 2, 6)  # the shape of the image


def test_empty_box_is_the_identity():
    batch = tiny_batch(n=4)
    mixed = cutmix(batch, torch.tensor([3, 2, 1, 0]), box((8, 8), 1.0, 3, 3))

    assert torch.equal(mixed.x, batch.x)
    assert torch.equal(mixed.y, batch.y)


def test_label_weight_is_the_share_of_changed_pixels():
    """Image i is constant i, so pixels and targets can be counted after the hook itself has drawn."""
    run, batch = tiny_run(), tiny_batch(n=8)
    batch = replace(batch, x=(torch.arange(8.0) / 8).view(-1, 1, 1, 1).expand(8, 1, 8, 8))
    trick = Cutmix(prob=1.0)
    weights = set()
    for _ in range(50):
        mixed = trick.batch(batch, run)
        changed = (mixed.x != batch.x).float().mean((1, 2, 3))
        given_away = 1 - mixed.y[torch.arange(8), batch.label]
        torch.testing.assert_close(given_away, changed)
        weights.add(float(changed.max()))
    assert len(weights) > 10


@pytest.mark.parametrize("prob", [0.0, 0.5, 1.0])
def test_acts_with_the_given_probability(prob):
    run, batch = tiny_run(), tiny_batch(n=2)
    trick = Cutmix(prob=prob, alpha=4.0)
    acted = sum(trick.batch(batch, run) is not batch for _ in range(400)) / 400
    assert abs(acted - prob) <= (0.1 if prob == 0.5 else 0)


@pytest.mark.parametrize("params", [{}, {"alpha": 4.0}, {"alpha": 0.2, "prob": 1.0}])
def test_areas_and_places_are_drawn_as_asked(params, monkeypatch):
    """The box covers 1 - w of the image, w from Beta(alpha, alpha), by default uniform, around any of its pixels."""
    calls, run, batch = recorded(monkeypatch, module, "box"), tiny_run(), tiny_batch(n=2)
    acted = [Cutmix(**params).batch(batch, run) is not batch for _ in range(1500)]
    _, keep, row, column = zip(*calls, strict=True)

    assert_beta(keep, params.get("alpha", 1.0))
    assert_share(acted, params.get("prob", 0.5))
    for place in (row, column):
        assert set(place) == set(range(8))
        spread = torch.rand(len(place), generator=torch.Generator().manual_seed(0))
        assert_uniform(torch.tensor(place) + spread, 0, 8)
