import pytest
import torch
from torch.nn import functional as F

from draws import assert_share
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.mixing.cutblur import CutBlur, coarse


class TestCutBlur(TrickConformance):
    trick = CutBlur


def test_coarse_images_are_small_ones_made_large():
    x = tiny_batch(2, channels=3).x
    small = F.interpolate(x, (2, 2), mode="bilinear", antialias=True)
    torch.testing.assert_close(coarse(x, 4), F.interpolate(small, (8, 8), mode="bilinear"))
    torch.testing.assert_close(coarse(x, 1), x)


def changed(n=1000, side=8, **params):
    """Which pixels are coarse; all others are the image's."""
    batch = tiny_batch(n, size=side)
    out = CutBlur(**params).batch(batch, tiny_run(size=side)).x
    other = coarse(batch.x, params.get("scale", 4))
    mask = out != batch.x
    assert torch.equal(out[mask], other[mask])
    return mask[:, 0]


@pytest.mark.parametrize(("params", "inside"), [({}, 25), ({"ratio": 0.5}, 16), ({"scale": 2}, 25)])
def test_a_box_or_all_but_it_is_coarse(params, inside):
    """Sides of floor(0.7 * 8) = 5 pixels, and of 4."""
    counts = changed(p=1.0, **params).sum((1, 2))
    assert set(counts.tolist()) == {inside, 64 - inside}
    assert_share(counts == inside, 0.5)


def test_boxes_lie_at_every_place():
    mask = changed(n=3000, p=1.0)
    boxes = mask[mask.sum((1, 2)) == 25]
    tops = {int(box.any(1).nonzero()[0]) for box in boxes}
    lefts = {int(box.any(0).nonzero()[0]) for box in boxes}
    assert tops == lefts == {0, 1, 2, 3}
    assert_share([box[0].any() for box in boxes], 0.25)


@pytest.mark.parametrize(("params", "p"), [({}, 0.5), ({"p": 0.2}, 0.2), ({"p": 0.0}, 0.0)])
def test_each_image_is_changed_with_probability_p(params, p):
    assert_share(changed(**params).flatten(1).any(1), p)


def test_refuses_boxes_without_a_pixel():
    with pytest.raises(NoEffect, match=r"ratio = 0\.1 makes boxes without a pixel"):
        CutBlur(ratio=0.1).prepare(tiny_run())
    CutBlur().prepare(tiny_run())
