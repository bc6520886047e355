from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from harness.experiment import Augment
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment.random_flip import RandomFlip, flip
from harness.tricks.contract import NoEffect, NotApplicable


class TestRandomFlip(TrickConformance):
    trick = RandomFlip
    params: ClassVar = {"force": True}  # digits refuse it otherwise


def test_mirrors_the_chosen_images_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(2, 1, 2, 2)
    which = torch.tensor([True, False])

    assert flip(x, which, -1)[:, 0].tolist() == [[[2, 1], [4, 3]], [[1, 2], [3, 4]]]
    assert flip(x, which, -2)[:, 0].tolist() == [[[3, 4], [1, 2]], [[1, 2], [3, 4]]]


@pytest.mark.parametrize("axis", [-1, -2])
def test_twice_is_the_identity(axis):
    x = tiny_batch().x
    which = torch.arange(8) % 2 == 0
    assert torch.equal(flip(flip(x, which, axis), which, axis), x)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_rate(p):
    batch = tiny_batch(n=4000)
    out = RandomFlip(p=p).batch(batch, tiny_run())
    flipped = (out.x == batch.x.flip(-1)).flatten(1).all(1)
    kept = (out.x == batch.x).flatten(1).all(1)

    assert torch.all(flipped ^ kept)
    assert abs(flipped.float().mean() - p) < (0.03 if p == 0.3 else 1e-9)


def digits():
    info = tiny_info()
    return info._replace(invariances=info.invariances._replace(flip=False))


def test_refuses_digits_unless_forced():
    run = tiny_run(info=digits())
    with pytest.raises(NotApplicable, match=r"digits declares invariances\.flip = False"):
        RandomFlip().prepare(run)
    RandomFlip(force=True).prepare(run)

    batch = tiny_batch()
    assert torch.equal(RandomFlip(force=True, p=1.0).batch(batch, run).x, batch.x.flip(-1))


def test_vertical_needs_force_everywhere():
    with pytest.raises(NotApplicable, match="vertical flip"):
        RandomFlip(axis="vertical").prepare(tiny_run())
    RandomFlip(axis="vertical", force=True).prepare(tiny_run())
    RandomFlip().prepare(tiny_run())


def test_a_recipe_that_mirrors_already_leaves_nothing_to_do():
    run = tiny_run(augment=Augment(flip=True))
    with pytest.raises(NoEffect, match="mirrors already"):
        RandomFlip().prepare(run)


def test_targets_stay():
    batch = tiny_batch()
    assert replace(RandomFlip().batch(batch, tiny_run()), x=batch.x) == batch
