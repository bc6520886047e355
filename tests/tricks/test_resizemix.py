from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from draws import assert_share, assert_uniform, recorded
from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.mixing import resizemix as module
from harness.tricks.mixing.resizemix import ResizeMix, resizemix


class TestResizeMix(TrickConformance):
    trick = ResizeMix


def test_pastes_the_whole_image_small_and_nothing_else():
    batch = tiny_batch(2, channels=3, size=16)
    mixed = resizemix(batch, torch.tensor([1, 0]), 0.5, down=0.5, right=0.999)
    small = F.interpolate(batch.x, (8, 8), mode="bilinear", antialias=True)

    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 8:16] = True  # half of 9 places down, the last to the right
    assert torch.equal(mixed.x[0, :, 4:12, 8:16], small[1])
    assert torch.equal(mixed.x[0][:, ~inside], batch.x[0][:, ~inside])
    torch.testing.assert_close(mixed.y[0], 0.75 * batch.y[0] + 0.25 * batch.y[1])


def test_oblong_images_keep_their_shape():
    """OpenMixup swaps the sides."""
    batch = tiny_batch(2, size=16)
    batch = replace(batch, x=batch.x[..., :8].clone())
    mixed = resizemix(batch, torch.tensor([1, 0]), 0.25, down=0.0, right=0.0)
    changed = (mixed.x != batch.x).any(1).any(0)
    assert changed[:4, :2].all()
    assert int(changed.sum()) == 8


def test_label_weight_is_the_share_of_changed_pixels_and_places_are_even():
    run, batch = tiny_run(), tiny_batch(n=2)
    batch = replace(batch, x=torch.stack((torch.zeros(1, 8, 8), torch.ones(1, 8, 8))))
    seen = torch.zeros(8, 8)
    for _ in range(200):
        mixed = ResizeMix(low=0.5, high=0.5).batch(batch, run)
        changed = (mixed.x != batch.x).float()
        torch.testing.assert_close(1 - mixed.y[torch.arange(2), batch.label], changed.mean((1, 2, 3)))
        seen += changed[0, 0]
    assert bool((seen > 0).all())
    torch.testing.assert_close(seen, seen.flip(0), atol=60, rtol=0)


@pytest.mark.parametrize(("params", "low", "high"), [({}, 0.1, 0.8), ({"low": 0.3, "high": 0.5}, 0.3, 0.5)])
def test_scales_and_places_are_drawn_as_asked(params, low, high, monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "resizemix"), tiny_run(), tiny_batch(2)
    for _ in range(1500):
        ResizeMix(**params).batch(batch, run)
    _, partner, scale, down, right = zip(*calls, strict=True)
    assert_uniform(scale, low, high)
    for place in (down, right):
        assert_uniform(place, 0, 1)
    assert_share([int(p[0]) == 1 for p in partner], 0.5)


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_a_batch_is_mixed_with_probability_prob(prob):
    run, batch = tiny_run(), tiny_batch(4)
    assert_share([ResizeMix(prob=prob).batch(batch, run) is not batch for _ in range(600)], prob)


def test_ends_in_the_wrong_order_are_refused():
    with pytest.raises(UserError, match=r"low = 0\.9 exceeds high = 0\.8"):
        registry.make("resizemix", {"low": 0.9})
