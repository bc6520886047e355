from dataclasses import replace

import pytest
import torch

from draws import assert_independent, assert_share
from harness.data.types import DIGITS
from harness.errors import UserError
from harness.experiment import Augment, Recipe
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.alternating_flip import AlternatingFlip
from harness.tricks.augment.random_flip import RandomFlip
from harness.tricks.contract import NotApplicable
from harness.tricks.stack import Stack


class TestAlternatingFlip(TrickConformance):
    trick = AlternatingFlip
    params = {"force": True}  # noqa: RUF012


class TestAlternatingFlipOfDigits(TrickConformance):
    trick = AlternatingFlip
    unfit = True


def mirrored(run, trick, epoch, order=None):
    """Which of 80 images an epoch mirrors, by their numbers, whatever the order in which they come."""
    run.epoch, batch = epoch, tiny_batch(80)
    order = torch.arange(80) if order is None else order
    batch = replace(batch, x=batch.x[order], label=batch.label[order], index=batch.index[order])
    out = trick.batch(batch, run).x
    which = (out == batch.x.flip(-1)).flatten(1).all(1)
    assert torch.equal(out[~which], batch.x[~which])
    return which[order.argsort()]


def prepared(seed=0):
    run, trick = tiny_run(seed=seed), AlternatingFlip()
    trick.prepare(run)
    return run, trick


def test_every_two_epochs_show_each_image_both_ways_once():
    run, trick = prepared()
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    first, second, third = mirrored(run, trick, 0), mirrored(run, trick, 1, order), mirrored(run, trick, 2)

    assert torch.equal(second, ~first)
    assert torch.equal(third, first)


def test_the_first_orientation_is_an_even_draw_of_each_image_and_run():
    firsts = torch.stack([mirrored(*prepared(seed), 0) for seed in range(30)])
    assert_share(firsts, 0.5)
    assert_independent(*firsts.double())


def test_it_takes_the_place_of_the_recipes_mirror():
    recipe = Recipe(epochs=1, batch_size=8, lr=0.1, augment=Augment(shift=0.125, flip=True))
    assert AlternatingFlip().recipe(recipe, tiny_info()).augment == Augment(shift=0.125)


def test_refuses_where_a_mirror_changes_the_class_and_a_second_mirror():
    recipe, digits = Recipe(epochs=1, batch_size=8, lr=0.1), tiny_info()._replace(invariances=DIGITS)
    with pytest.raises(NotApplicable, match=r"flip = False.*force = true"):
        AlternatingFlip().recipe(recipe, digits)
    assert AlternatingFlip(force=True).recipe(recipe, digits) == recipe
    with pytest.raises(UserError, match="both mirror"):
        Stack([AlternatingFlip(), RandomFlip()])
