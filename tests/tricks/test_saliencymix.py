from dataclasses import replace

import pytest
import torch

from draws import assert_beta, assert_share, recorded
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.mixing import saliencymix as module
from harness.tricks.mixing.saliencymix import SURROUNDINGS, SaliencyMix, fine_grained, mean_around, salient_boxes


class TestSaliencyMix(TrickConformance):
    trick = SaliencyMix


def test_surroundings_by_hand():
    image = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    near = mean_around(image, 1)
    assert near.tolist() == [
        [pytest.approx(v) for v in row] for row in ([3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0])
    ]
    torch.testing.assert_close(mean_around(image, 5), torch.full((3, 3), 5.0))


def test_saliency_is_the_sum_of_distances_from_all_surroundings():
    x = tiny_batch(3, channels=3, size=32).x
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    expected = sum((grey - mean_around(grey, reach)).abs() for reach in (2, 3, 7, 4, 8, 16))
    torch.testing.assert_close(fine_grained(x), expected)
    assert [share * 224 for share in SURROUNDINGS] == pytest.approx([12, 24, 48, 28, 56, 112])
    assert float(fine_grained(torch.full((1, 1, 16, 16), 0.3)).abs().max()) < 1e-6


@pytest.mark.parametrize(("row", "column"), [(3, 12), (8, 8), (15, 0)])
def test_a_planted_bright_spot_is_the_middle_of_the_box(row, column):
    x = torch.full((1, 1, 16, 16), 0.2)
    x[..., row, column] = 1.0
    (mask,) = salient_boxes(x, keep=0.75)  # sides of half the image, 4 pixels each way
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[max(row - 4, 0) : row + 4, max(column - 4, 0) : column + 4] = True
    assert torch.equal(mask, expected)


def test_each_images_own_peak_is_pasted_and_targets_follow():
    batch = tiny_batch(2, size=16)
    x = torch.full((2, 1, 16, 16), 0.2)
    x[0, :, 4, 4], x[1, :, 11, 12] = 1.0, 0.9
    batch, run = replace(batch, x=x), tiny_run(size=16)
    swapped = 0
    for _ in range(60):
        out = SaliencyMix(prob=1.0).batch(batch, run)
        share = 1 - out.y[torch.arange(2), batch.label]
        if bool((share > 0).all()):
            swapped += 1
            assert float(out.x[0, 0, 11, 12]) == pytest.approx(0.9)
            assert float(out.x[1, 0, 4, 4]) == pytest.approx(1.0)
    assert swapped > 10


def test_label_weight_is_the_share_of_changed_pixels():
    run, batch = tiny_run(), tiny_batch(n=8)
    ramp = torch.linspace(0, 0.05, 64).view(1, 1, 8, 8)
    batch = replace(batch, x=(torch.arange(8.0) / 8).view(-1, 1, 1, 1) + ramp)
    for _ in range(40):
        mixed = SaliencyMix(prob=1.0).batch(batch, run)
        changed = (mixed.x != batch.x).float().mean((1, 2, 3))
        torch.testing.assert_close(1 - mixed.y[torch.arange(8), batch.label], changed)


@pytest.mark.parametrize(("params", "alpha", "prob"), [({}, 1.0, 0.5), ({"alpha": 0.3, "prob": 0.8}, 0.3, 0.8)])
def test_areas_are_drawn_as_asked(params, alpha, prob, monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "salient_boxes"), tiny_run(), tiny_batch(2)
    acted = [SaliencyMix(**params).batch(batch, run) is not batch for _ in range(1500)]
    assert_share(acted, prob)
    assert_beta([keep for _, keep in calls], alpha)
