from __future__ import annotations

import dataclasses
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


def test_noise_by_pair_gives_the_same_images_the_next_class() -> None:
    clean, uniform = make().train, make(label_noise=0.26).train
    pair = make(label_noise=0.26, label_noise_kind="pair").train
    wrong = pair.label != clean.label
    assert torch.equal(wrong, uniform.label != clean.label)
    assert torch.equal(pair.label[wrong], (clean.label[wrong] + 1) % 3)


def test_noise_by_class_changes_the_exact_share_of_each_named_class_and_no_other() -> None:
    clean = make().train.label  # 10, 20 and 30 of a, b and c
    noisy = make(label_noise=0.3, label_noise_kind="class", label_noise_to={"c": "a", "b": "c"}).train.label
    pairs = [(int(a), int(b)) for a, b in zip(clean, noisy, strict=True) if a != b]
    counts = torch.bincount(clean).tolist()
    assert sorted(pairs) == [(1, 2)] * round(0.3 * counts[1]) + [(2, 0)] * round(0.3 * counts[2])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"label_noise_kind": "class"}, "needs label_noise_to"),
        ({"label_noise_to": {"a": "b"}}, "needs label_noise_to"),
        ({"label_noise_kind": "class", "label_noise_to": {"a": "a"}}, "a becomes itself"),
        ({"labels": "x.npy", "classes": 2}, "set one of the two"),
    ],
)
def test_conditions_on_labels_that_cannot_be(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make(**more)


def test_noise_of_a_class_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"data.label_noise_to: 'z' is no class"):
        make(label_noise=0.3, label_noise_kind="class", label_noise_to={"a": "z"})


def test_the_labelled_are_repeated_and_the_others_have_no_label() -> None:
    all_known, some = make(), make(labelled=0.25)
    known, hidden = some.train.index.unique(), some.unlabelled
    assert hidden is not None
    assert (len(known), len(hidden.index), len(some.train.label)) == (15, 45, 60)
    assert sorted([*known.tolist(), *hidden.index.tolist()]) == sorted(all_known.train.index.tolist())
    assert torch.bincount(some.train.index)[known].tolist() == [4] * 15
    assert hidden.label.tolist() == [-1] * 45
    for part in (some.train, hidden):
        assert torch.equal(part.rows[:].flatten().long(), part.index)
    label = dict(zip(all_known.train.index.tolist(), all_known.train.label.tolist(), strict=True))
    assert some.train.label.tolist() == [label[i] for i in some.train.index.tolist()]
    assert np.abs(np.array(some.info.train_counts) - [2.5, 5, 7.5]).max() <= 1
    assert torch.equal(some.val.index, all_known.val.index)


def test_the_labelled_of_a_smaller_share_are_a_subset_with_every_class() -> None:
    less, more = make(labelled=0.01).train, make(labelled=0.4).train
    assert {*less.index.tolist()} < {*more.index.tolist()}
    assert sorted({*less.label.tolist()}) == [0, 1, 2]


def test_all_labelled_but_none_hidden_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.labelled = 0.999 leaves none of the 60"):
        make(labelled=0.999)


def test_labels_that_were_given_replace_those_of_training_alone() -> None:
    source = make_source()
    other = (source.train_labels + 1) % 3
    clean, said = make(source=source), make(source=dataclasses.replace(source, said_labels=other))
    assert torch.equal(said.train.index, clean.train.index)
    assert said.train.label.tolist() == other[said.train.index].tolist()
    assert torch.equal(said.val.label, clean.val.label)
    assert torch.equal(said.given, clean.train.label)
