import math

import pytest
import torch

from harness.errors import UserError
from harness.experiment import Augment, Recipe
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.random_affine import RandomAffine
from harness.tricks.augment.random_rotation import RandomRotation
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.stack import Stack

SIZE = 65
PLACE = torch.arange(SIZE) - 32.0
OFF = {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0}


class TestRandomAffine(TrickConformance):
    trick = RandomAffine


def moments(**params):
    """Centre, width and covariance of x and y, (400,) each, of round bumps after the trick with one part on."""
    batch = tiny_batch(n=400, size=SIZE)
    batch.x.copy_(torch.exp(-((PLACE - 10) ** 2 + PLACE[:, None] ** 2) / 72).expand(400, 1, SIZE, SIZE))
    x = RandomAffine(**(OFF | params)).batch(batch, tiny_run(size=SIZE)).x[:, 0]
    x = x / x.sum((1, 2), keepdim=True)
    right, down = x.sum(1) @ PLACE, x.sum(2) @ PLACE
    dx, dy = PLACE - right[:, None], PLACE - down[:, None]
    width = (x.sum(1) * dx**2).sum(1).sqrt()
    return right, down, width, torch.einsum("nij,ni,nj->n", x, dy, dx)


def test_moves_uniformly_both_ways_by_a_fraction_of_the_side():
    right, down, width, _ = moments(translate=0.1)
    for moved in (right - 10, down):
        assert 6.2 < moved.abs().max() < 6.6
        assert abs(moved.std() - 13 / 12**0.5) < 0.25
    assert abs(torch.corrcoef(torch.stack((right, down)))[0, 1]) < 0.15
    torch.testing.assert_close(width, torch.full_like(width, 6.0), rtol=0.02, atol=0)


def test_scales_about_the_centre():
    right, down, width, _ = moments(scale=0.2)
    torch.testing.assert_close(right / 10, width / 6, rtol=0.01, atol=0)
    assert 0.79 < (width / 6).min() < 0.82
    assert 1.18 < (width / 6).max() < 1.21
    assert down.abs().max() < 0.01


def test_turns_about_the_centre():
    right, down, _, _ = moments(degrees=20.0)
    angle = torch.atan2(-down, right) * 180 / math.pi
    assert 19 < angle.abs().max() < 20.1
    assert angle.min() < -15


def test_shears_columns():
    """Under a shear by s, cov(x, y) = tan(s) var(y), and var(y) is 36."""
    _, down, _, cov = moments(shear=20.0)
    assert down.abs().max() < 0.01
    slope = cov / 36
    assert 0.95 < slope.max() / math.tan(math.radians(20)) < 1.02
    assert -1.02 < slope.min() / math.tan(math.radians(20)) < -0.95


def test_replaces_what_it_has_itself_of_the_recipe():
    recipe = Recipe(epochs=1, batch_size=8, lr=0.1, augment=Augment(shift=0.125, rotation=5.0, flip=True))
    both = RandomAffine().recipe(recipe, tiny_info())
    shear_only = RandomAffine(**(OFF | {"shear": 5.0})).recipe(recipe, tiny_info())
    assert both.augment == Augment(flip=True)
    assert shear_only == recipe


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"degrees": 31.0}, "degrees = 31 .* bear 30"),
        ({"translate": 0.3}, r"translate = 0\.3 .* bear 0\.25"),
        ({"shear": 30.0}, r"shear = 30 .* bear 26\.5"),  # atan(1/2)
    ],
)
def test_refuses_what_changes_the_class(params, message):
    recipe = Recipe(epochs=1, batch_size=8, lr=0.1)
    with pytest.raises(NotApplicable, match=message):
        RandomAffine(**params).recipe(recipe, tiny_info())
    RandomAffine(**params, force=True).recipe(recipe, tiny_info())


def test_refuses_to_do_nothing_and_to_turn_twice():
    with pytest.raises(NoEffect, match="all zero"):
        RandomAffine(**OFF).recipe(Recipe(epochs=1, batch_size=8, lr=0.1), tiny_info())
    with pytest.raises(UserError, match="both turn"):
        Stack([RandomAffine(), RandomRotation()])
