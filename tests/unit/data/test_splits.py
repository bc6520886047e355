from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.splits import Splits, describe, split, stratified_order
from harness.data.types import PHOTOS, Source
from harness.errors import UserError
from harness.experiment import Data
from harness.tricks.contract import TrainingSet


def make_source(counts: tuple[int, ...] = (30, 60, 90), test_counts: tuple[int, ...] | None = None) -> Source:
    """One-pixel images, each of which holds its own position."""

    def arrays(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
        return np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), labels

    test = arrays(test_counts) if test_counts else (None, None)
    classes = tuple("abcdefghij"[: len(counts)])
    return Source(*arrays(counts), *test, classes, 255, PHOTOS, "0" * 16)


def make(train: int | None = 60, val: int = 30, test: int | None = 60, seed: int = 0, **more: Any) -> Splits:
    source = more.pop("source", None) or make_source()
    data = Data.model_validate({"name": "digits", "train_size": train, "val_size": val, "test_size": test, **more})
    return split(source, data, seed)


def test_any_prefix_holds_each_class_in_proportion_to_about_one() -> None:
    labels = make_source().train_labels
    order = stratified_order(labels, np.random.default_rng(3))
    assert sorted(order) == list(range(180))
    for size in range(1, 181):
        counts = np.bincount(labels[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([1, 2, 3]) / 6).max() < 1.5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_train_val_and_test_are_stratified(seed: int) -> None:
    splits = make(seed=seed)
    for labels, expected in (
        (splits.train.label, [10, 20, 30]),
        (splits.val.label, [5, 10, 15]),
        (splits.test.label, [10, 20, 30]),
    ):
        assert (torch.bincount(labels) - torch.tensor(expected)).abs().max() <= 1


def test_splits_are_disjoint_and_rows_belong_to_their_index() -> None:
    source = make_source()
    splits = make(source=source)
    parts = (splits.train, splits.val, splits.test)
    indices = torch.cat([part.index for part in parts])
    assert len(indices) == 150
    assert len(indices.unique()) == 150
    for part in parts:
        assert torch.equal(part.images[:].flatten().long(), part.index)
        assert torch.equal(part.label, torch.from_numpy(source.train_labels)[part.index])


def test_a_smaller_training_split_is_a_prefix_and_moves_neither_val_nor_test() -> None:
    small, large = make(train=20), make(train=90)
    assert torch.equal(small.train.index, large.train.index[:20])
    assert torch.equal(small.val.index, large.val.index)
    assert torch.equal(small.test.index, large.test.index)


def test_a_seed_repeats_its_split_and_another_differs() -> None:
    assert torch.equal(make(seed=4).train.index, make(seed=4).train.index)
    assert not torch.equal(make(seed=4).train.index, make(seed=5).train.index)


def test_without_train_size_training_takes_the_rest() -> None:
    assert len(make(train=None).train.label) == 180 - 30 - 60


def test_an_official_test_split_is_used_whole_or_as_a_stratified_part() -> None:
    source = make_source(test_counts=(10, 20, 30))
    whole, part = make(source=source, test=None), make(source=source, test=12)
    assert torch.equal(whole.test.index, torch.arange(60))
    assert len(part.test.label) == 12
    assert (torch.bincount(part.test.label) - torch.tensor([2, 4, 6])).abs().max() <= 1
    assert source.test_labels is not None
    assert torch.equal(part.test.label, torch.from_numpy(source.test_labels)[part.test.index])
    assert torch.equal(whole.train.index, part.train.index)
    assert len(make(source=source, train=None, test=12).train.label) == 150


@pytest.mark.parametrize(
    ("sizes", "numbers"),
    [
        ({"train": 91}, ["91", "30", "60", "180", "181"]),
        ({"train": None, "val": 120}, ["the rest", "120", "60", "180", "181"]),
        ({"test": None}, ["data.test_size is missing", "digits"]),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_numbers(sizes: dict[str, Any], numbers: list[str]) -> None:
    with pytest.raises(UserError) as error:
        make(**sizes)
    assert all(number in str(error.value) for number in numbers)


def test_a_test_size_beyond_the_official_split_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.test_size = 61: .* 60 images"):
        make(source=make_source(test_counts=(10, 20, 30)), test=61)


@pytest.mark.parametrize("official", [True, False])
def test_a_class_with_one_image_is_trained_on_with_every_seed(official: bool) -> None:
    source = make_source(counts=(1, 30, 40, 2), test_counts=(5, 5, 5, 5) if official else None)
    for seed in range(40):
        splits = make(source=source, train=12, val=20, test=20, seed=seed)
        counts = splits.info.train_counts
        assert min(counts) >= 1, seed
        assert counts[0] == 1
        assert sum(counts) == 12
        parts = [splits.train.index, splits.val.index, *([] if official else [splits.test.index])]
        assert len(torch.cat(parts).unique()) == 32 + (0 if official else 20)


@pytest.mark.parametrize("seed", range(8))
def test_splits_stay_nested_where_a_rare_class_is_brought_in(seed: int) -> None:
    source = make_source(counts=(1, 2, 1, 50, 60))
    sizes = [make(source=source, train=size, val=30, test=30, seed=seed) for size in range(5, 54)]
    for small, large in pairwise(sizes):
        assert set(small.train.index.tolist()) < set(large.train.index.tolist())
        assert torch.equal(small.val.index, large.val.index)
        assert torch.equal(small.test.index, large.test.index)


def test_fewer_training_images_than_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"data: 2 images to train on are fewer than the 3 classes"):
        make(train=2)


def test_label_noise_replaces_the_exact_number_by_wrong_labels_in_training_only() -> None:
    clean, noisy = make(), make(label_noise=0.26)
    assert int((noisy.train.label != clean.train.label).sum()) == round(0.26 * 60) == 16
    assert int(noisy.train.label.min()) >= 0
    assert int(noisy.train.label.max()) <= 2
    assert torch.equal(noisy.train.index, clean.train.index)
    assert torch.equal(noisy.val.label, clean.val.label)
    assert torch.equal(noisy.test.label, clean.test.label)
    assert noisy.info.train_counts == tuple(torch.bincount(noisy.train.label).tolist())


def test_label_noise_reaches_every_wrong_class() -> None:
    pairs = set(zip(make().train.label.tolist(), make(label_noise=1.0).train.label.tolist(), strict=True))
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}


def test_without_noise_labels_are_those_of_the_source() -> None:
    source = make_source()
    train = make(source=source).train
    assert train.label.tolist() == source.train_labels[train.index].tolist()


def test_imbalance_keeps_an_exponential_profile() -> None:
    source = make_source(counts=(60, 60, 60))
    full, skewed = make(source=source, train=90), make(source=source, train=90, imbalance=0.1)
    assert skewed.info.train_counts == (30, round(30 * 0.1**0.5), 3) == (30, 9, 3)
    assert set(skewed.train.index.tolist()) < set(full.train.index.tolist())
    assert torch.equal(skewed.val.index, full.val.index)


def test_mean_and_std_are_per_channel_and_a_constant_channel_has_the_floor() -> None:
    images = torch.tensor([[[[0, 8]]], [[[16, 8]]]], dtype=torch.uint8)
    train = TrainingSet(images, torch.tensor([0, 1]), torch.tensor([0, 1]), peak=16)
    info = describe(train, make_source(counts=(1, 1)))
    assert info.mean == pytest.approx((0.5, 0.5))
    assert info.std == pytest.approx((0.5, 1e-3))
    assert (info.channels, info.size, info.train_counts) == (2, 1, (1, 1))
