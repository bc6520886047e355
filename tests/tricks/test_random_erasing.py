from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment import random_erasing
from harness.tricks.augment.random_erasing import RandomErasing, boxes


class TestRandomErasing(TrickConformance):
    trick = RandomErasing


def white(n, channels=1, size=32):
    """All pixels at 2, which no fill can produce, so that changed pixels can be counted."""
    return replace(tiny_batch(n=n, channels=channels, size=size), x=torch.full((n, channels, size, size), 2.0))


def test_boxes_by_hand():
    box = boxes(
        area=torch.tensor([[0.5, 0.25, 0.1]]),
        aspect=torch.tensor([[4.0, 1.0, 1.0]]),  # the first would be 11 pixels high in an image of 8
        place=torch.tensor([[0.0, 0.99]]),
        size=(8, 8),
    )
    assert [int(t) for t in box] == [0, 4, 4, 4, 1]

    tall = boxes(torch.tensor([[0.125]]), torch.tensor([[2.0]]), torch.tensor([[0.95, 0.5]]), (8, 8))
    assert [int(t) for t in tall] == [4, 3, 4, 2, 1]  # 4 x 2 of 64 pixels, at one of 5 rows and 7 columns

    none = boxes(torch.tensor([[1.0]]), torch.tensor([[1.0]]), torch.tensor([[0.5, 0.5]]), (8, 8))
    assert not none.fits


def test_erased_share_is_within_the_range_and_one_rectangle():
    batch = white(500)
    erased = RandomErasing(p=1.0, area_min=0.1, area_max=0.3).batch(batch, tiny_run(size=32)).x != 2
    share = erased.float().mean((1, 2, 3))
    hull = erased.any(2).sum((1, 2)) * erased.any(3).sum((1, 2))

    assert torch.equal(hull, erased.sum((1, 2, 3)))
    assert share.min() > 0.08  # half a pixel of rounding per side
    assert share.max() < 0.33
    assert abs(share.mean() - 0.2) < 0.01


def test_aspect_is_within_the_range():
    erased = RandomErasing(p=1.0, area_min=0.2, area_max=0.2, aspect_min=0.5).batch(white(500), tiny_run()).x != 2
    aspect = erased.any(3).sum((1, 2)) / erased.any(2).sum((1, 2))

    assert 0.45 < aspect.min() < 0.6
    assert 1.7 < aspect.max() < 2.25


@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_rate(p):
    changed = (RandomErasing(p=p).batch(white(2000, size=8), tiny_run()).x != 2).flatten(1).any(1)
    assert abs(changed.float().mean() - p) < (0.04 if p == 0.4 else 1e-9)


def test_fills():
    info = tiny_info(channels=3)._replace(mean=(0.1, 0.2, 0.3))
    values = {}
    for fill in ("const", "rand", "pixel"):
        run = tiny_run(info=info)
        out = RandomErasing(p=1.0, area_min=0.2, area_max=0.2, fill=fill).batch(white(1, channels=3, size=8), run).x[0]
        values[fill] = out[:, (out != 2).any(0)]

    const = torch.tensor([0.1, 0.2, 0.3])[:, None]
    assert torch.equal(values["const"], const.expand_as(values["const"]))
    assert torch.equal(values["rand"], values["rand"][:, :1].expand_as(values["rand"]))
    assert values["rand"].unique().numel() == 3
    assert values["pixel"].unique().numel() == values["pixel"].numel()
    assert values["const"].shape == values["rand"].shape == values["pixel"].shape  # the fill never moves the box


def test_area_range_must_be_ordered():
    with pytest.raises(ValidationError, match="exceeds area_max"):
        RandomErasing(area_min=0.5, area_max=0.4)


def test_images_without_a_fitting_box_stay(monkeypatch):
    monkeypatch.setattr(random_erasing, "TRIES", 1)
    trick = RandomErasing(p=1.0, area_min=0.5, area_max=0.99, aspect_min=1.0)
    erased = (trick.batch(white(200, size=8), tiny_run()).x != 2).sum((1, 2, 3))

    assert set(erased.tolist()) == {0, 36, 49}  # squares of side 6 or 7; one of side 8 would not fit
