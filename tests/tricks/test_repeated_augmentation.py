from collections import Counter

import pytest
import torch
from timm.data.distributed_sampler import RepeatAugSampler

from draws import assert_share
from harness.testing import TrickConformance, tiny_run
from harness.tricks.augment.repeated_augmentation import RepeatedAugmentation, repeated


class TestRepeatedAugmentation(TrickConformance):
    trick = RepeatedAugmentation


def test_positions_by_hand():
    assert repeated(torch.tensor([4, 1, 0, 3, 2]), 2).tolist() == [4, 4, 1, 1, 0]


def test_positions_are_those_of_timms_sampler():
    sampler = RepeatAugSampler(range(512), num_replicas=1, rank=0, num_repeats=3)
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    assert repeated(order, 3).tolist() == list(sampler)


@pytest.mark.parametrize(("params", "repeats"), [({}, 3), ({"repeats": 5}, 5), ({"repeats": 2}, 2)])
def test_each_chosen_image_is_repeated_and_an_epoch_keeps_its_length(params, repeats):
    run = tiny_run()
    counts = Counter(RepeatedAugmentation(**params).sampler(run.train, run).tolist())
    assert sum(counts.values()) == 80
    assert sorted(counts.values())[1:] == [repeats] * (80 // repeats - (80 % repeats == 0))


def test_images_are_chosen_evenly_and_anew_each_epoch():
    run, trick = tiny_run(), RepeatedAugmentation(repeats=2)
    epochs = torch.stack([torch.bincount(trick.sampler(run.train, run), minlength=80) for _ in range(400)])
    assert_share(epochs[:, 7] == 2, 0.5)
    assert_share(epochs == 2, 0.5)
    assert not torch.equal(epochs[0], epochs[1])
