import math

import pytest
import torch

from harness.experiment import Augment, Recipe
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.random_rotation import RandomRotation, rotate
from harness.tricks.contract import NoEffect, NotApplicable


class TestRandomRotation(TrickConformance):
    trick = RandomRotation


class TestRandomRotationBeyondTheLimit(TrickConformance):
    trick = RandomRotation
    params = {"degrees": 15.0}  # noqa: RUF012
    unfit = True


def recipe(**augment):
    return Recipe(epochs=1, batch_size=8, lr=0.1, augment=Augment(**augment))


def test_quarter_turn_is_rot90_and_no_turn_the_identity():
    x = tiny_batch(n=2).x
    out = rotate(x, torch.tensor([math.pi / 2, 0.0]))
    torch.testing.assert_close(out[0], torch.rot90(x[0], 1, (-2, -1)))
    torch.testing.assert_close(out[1], x[1])


def test_angles_are_uniform_within_the_limit_and_drawn_per_image():
    """A spot right of the centre tells by how much it was turned (up is counter-clockwise)."""
    n, size = 500, 65
    batch = tiny_batch(n=n, size=size)
    place = torch.arange(size) - 32.0
    batch.x.copy_(torch.exp(-((place - 20) ** 2 + place[:, None] ** 2) / 18).expand(n, 1, size, size))
    out = RandomRotation(degrees=20.0).batch(batch, tiny_run(size=size)).x
    mass = out.sum((1, 2, 3))
    right, down = (out.sum((1, 2)) @ place) / mass, (out.sum((1, 3)) @ place) / mass
    angle = torch.atan2(-down, right) * 180 / math.pi

    assert 19 < angle.max() < 20.1
    assert -20.1 < angle.min() < -19
    assert abs(angle.mean()) < 1.6
    assert abs(angle.std() - 40 / 12**0.5) < 0.8


def test_replaces_the_rotation_of_the_recipe_and_nothing_else():
    new = RandomRotation(degrees=20.0).recipe(recipe(shift=0.125, rotation=10.0), tiny_info())
    assert new.augment == Augment(shift=0.125)


def test_refuses_what_changes_the_class_or_nothing():
    with pytest.raises(NotApplicable, match=r"degrees = 45 .* bear 30"):
        RandomRotation(degrees=45.0).recipe(recipe(), tiny_info())
    RandomRotation(degrees=45.0, force=True).recipe(recipe(), tiny_info())
    with pytest.raises(NoEffect, match="already"):
        RandomRotation(degrees=10.0).recipe(recipe(rotation=10.0), tiny_info())
