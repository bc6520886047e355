import pytest
import torch

from harness.experiment import Augment, Recipe
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run, tiny_spec
from harness.tricks.augment.random_crop import RandomCrop, crop
from harness.tricks.contract import NoEffect, NotApplicable


class TestRandomCrop(TrickConformance):
    trick = RandomCrop
    params = {"mode": "reflect"}  # noqa: RUF012


class TestRandomCropLikeTheRecipes(TrickConformance):
    trick = RandomCrop
    unfit = True


def recipe(**augment):
    return Recipe(epochs=1, batch_size=8, lr=0.1, augment=Augment(**augment))


def test_windows_of_the_padded_image_by_hand():
    x = tiny_batch(n=3).x
    u = torch.tensor([[0.0, 0.5, 0.99], [0.0, 0.5, 0.5]])  # of 5 places each way: 0, 2 and 4
    out = crop(x, u, 2, "zero")

    assert torch.equal(out[0, :, 2:, 2:], x[0, :, :-2, :-2])
    assert not out[0, :, :2].any()
    assert torch.equal(out[1], x[1])
    assert torch.equal(out[2, :, :-2], x[2, :, 2:])


def test_reflection_mirrors_at_the_border_pixel():
    x = tiny_batch(n=1).x
    out = crop(x, torch.zeros(2, 1), 2, "reflect")
    assert torch.equal(out[0, 0, :, :2], x[0, 0][[2, 1, *range(6)]][:, [2, 1]])


def test_border_zero_is_the_identity():
    x = tiny_batch(n=3).x
    assert torch.equal(crop(x, torch.rand(2, 3), 0, "zero"), x)


def test_all_places_are_equally_likely_and_drawn_per_image():
    run, batch = tiny_run(), tiny_batch(n=900)
    batch.x.zero_()
    batch.x[..., 4, 4] = 1
    places = RandomCrop(pad=0.125).batch(batch, run).x.flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=64).view(8, 8)

    assert int(counts[3:6, 3:6].sum()) == 900
    assert (counts[3:6, 3:6] - 100).abs().max() < 45


def test_replaces_the_shift_of_the_recipe_and_nothing_else():
    old = recipe(shift=0.125, flip=True, rotation=5.0)
    new = RandomCrop(pad=0.25).recipe(old, tiny_info())
    assert new.augment == Augment(shift=0.0, flip=True, rotation=5.0)
    assert new.model_copy(update={"augment": old.augment}) == old


def test_refuses_what_changes_the_class_or_nothing():
    with pytest.raises(NotApplicable, match=r"pad = 0\.3 .* bear 0\.25"):
        RandomCrop(pad=0.3).recipe(recipe(), tiny_info())
    RandomCrop(pad=0.3, force=True).recipe(recipe(), tiny_info())
    with pytest.raises(NoEffect, match="by 1 pixels"):
        RandomCrop().recipe(tiny_spec().recipe, tiny_info())
    with pytest.raises(NoEffect, match="half a pixel"):
        RandomCrop(pad=0.05).recipe(recipe(), tiny_info())
