"""Folds of the training images: stratified, disjoint, whole, and blind to what is trained on them."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from harness.data.conditions import fold_of
from harness.data.splits import split
from harness.data.types import PHOTOS, Source
from harness.errors import UserError
from harness.experiment import Data


def source_of(counts, groups=None):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    classes = tuple("abcdefghij"[: len(counts)])
    return Source(pixels, labels, None, None, classes, 255, PHOTOS, "0" * 16, groups=groups)


def made(seed=0, counts=(60, 60, 90), **data):
    sizes = {"train_size": 70, "val_size": 30, "test_size": 60}
    return split(source_of(counts), Data.model_validate({"name": "digits", **sizes, **data}), seed)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_each_fold_has_its_share_of_every_class(count):
    labels = np.repeat(np.arange(4), (40, 21, 13, 1))
    fold = fold_of(labels, None, count, seed=3)
    sizes = np.array([np.bincount(labels[fold == k], minlength=4) for k in range(count)])

    assert (np.abs(sizes - np.array([40, 21, 13, 1]) / count) < 1).all()
    assert np.ptp(sizes.sum(1)) <= 1


def test_folds_are_those_of_the_seed():
    labels = np.arange(100) % 10
    assert_array_equal(fold_of(labels, None, 5, 1), fold_of(labels, None, 5, 1))
    assert (fold_of(labels, None, 5, 1) != fold_of(labels, None, 5, 2)).any()


def test_images_of_a_group_are_in_one_fold():
    labels, groups = np.arange(90) % 3, np.arange(90) // 6
    fold = fold_of(labels, groups, 3, 0)

    assert all(len(set(fold[groups == g])) == 1 for g in range(15))
    assert np.bincount(fold).tolist() == [30, 30, 30]


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_folds_part_the_training_images_and_keep_their_labels(noise):
    whole = made(label_noise=noise)
    folds = [made(label_noise=noise, fold=(k, 5)) for k in range(5)]
    labels = dict(zip(whole.train.index.tolist(), whole.train.label.tolist(), strict=True))

    assert whole.rest is None
    for s in folds:
        assert len(s.train.label) == 56
        for part in (s.train, s.rest):
            assert [labels[i] for i in part.index.tolist()] == part.label.tolist()
            assert part.rows[:].flatten().tolist() == [i % 256 for i in part.index.tolist()]
        assert sorted([*s.train.index.tolist(), *s.rest.index.tolist()]) == sorted(labels)
        assert torch.equal(s.val.index, whole.val.index)
        assert torch.equal(s.test.index, whole.test.index)
        assert s.info.train_counts == tuple(torch.bincount(s.train.label).tolist())
        assert len(s.given) == 56
    left = torch.cat([s.rest.index for s in folds])
    assert sorted(left.tolist()) == sorted(labels), "each is left out once"


def test_a_fold_alone_is_what_the_others_leave_out():
    one, others = made(fold=(2, 5), fold_alone=True), made(fold=(2, 5))

    assert torch.equal(one.train.index, others.rest.index)
    assert torch.equal(one.train.label, others.rest.label)
    assert torch.equal(one.rest.index, others.train.index)


def test_the_smallest_class_must_be_in_what_is_trained_on():
    with pytest.raises(UserError, match=r"data.fold = \[0, 20\]: no image of class '.' is left to train on"):
        made(train_size=60, counts=(40, 60, 90), imbalance=0.1, fold=(0, 20), fold_alone=True)
    with pytest.raises(UserError, match="training has 70 images; ask for at most so many folds"):
        made(fold=(0, 71))


@pytest.mark.parametrize("fold", [(5, 5), (-1, 5), (0, 1)])
def test_a_fold_that_is_none_is_refused(fold):
    with pytest.raises(ValueError, match="fold is"):
        Data(name="digits", val_size=10, fold=fold)


def test_a_fold_alone_needs_a_fold():
    with pytest.raises(ValueError, match="needs fold"):
        Data(name="digits", val_size=10, fold_alone=True)


def test_how_much_a_fold_trains_on():
    data = Data(name="digits", val_size=10)
    shares = [data.model_copy(update={"fold": (1, 4), "fold_alone": a}).fold_share for a in (False, True)]
    assert [data.fold_share, *shares] == [1.0, 0.75, 0.25]
    assert data.model_copy(update={"fold": (1, 4)}).images == data.images
