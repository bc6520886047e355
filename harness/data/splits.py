"""Training, validation and test splits: stratified, nested in the training size, one per seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness import rng
from harness.data.conditions import LABELLED, fold_of, labelled, with_noise
from harness.data.rows import Rows, rows_of
from harness.data.types import DataInfo, Labels, Part, Source, TrainingSet
from harness.errors import UserError
from harness.experiment import Data

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Held:
    """A split that is never trained on.

    images: uint8 (N, H, W, C), where `peak` is white, or rows of such images. label: (N,). index: (N,), positions in
    the array of the source that the split comes from.
    """

    images: Tensor | Rows
    label: Tensor
    index: Tensor
    peak: int

    @property
    def rows(self) -> Rows:
        """The images as rows."""
        return rows_of(self.images)


def first(part: Part, count: int) -> Held:
    """The first images of a split, with their integer labels; all if it has fewer."""
    few = torch.arange(min(count, len(part.label)))
    return Held(part.rows.select(few), part.label[few], part.index[few], part.peak)


@dataclass(frozen=True)
class Splits:
    """The three splits of one seed.

    given: of each training image the label that the data set has, before noise and other labels came; for scores alone.
    unlabelled: the training images whose labels are hidden, which are all -1; None where there are none.
    rest: the training images that a fold leaves out, with the labels that they would be trained on; None without one.
    """

    train: TrainingSet
    val: Held
    test: Held
    info: DataInfo
    given: Tensor
    unlabelled: Held | None = None
    rest: Held | None = None


def split(source: Source, data: Data, seed: int) -> Splits:
    """Split a source as `data` asks.

    All splits are stratified. Training is a prefix of one random order, and validation and test are taken
    from its end, so a smaller `train_size` is a subset of a larger one and moves neither of them. Where the data set
    has a validation or a test split, it is that one, or a stratified part of it. Every class has an image in training,
    however few it has. Where images have groups, all of a group go to one split, so that validation and test have at
    most as many images as asked.

    Raises:
        UserError: the sizes do not fit the data set or its number of classes, or `test_size` is needed and missing.
    """
    draw = rng.numpy_stream(seed, rng.SPLIT)
    available = len(source.train_labels)
    order = stratified_order(source.train_labels, draw) if source.groups is None else None
    if source.test_labels is None and data.test_size is None:
        raise UserError(f"data.test_size is missing: {data.name} has no official test split; give a size")
    drawn = [
        _drawn("val_size", data.val_size, source.val_labels, "validation"),
        _drawn("test_size", data.test_size, source.test_labels, "official test"),
    ]
    reserved = sum(drawn)
    train_size = available - reserved if data.train_size is None else data.train_size
    if train_size < 1 or train_size + reserved > available:
        sizes = f"train_size = {data.train_size or 'the rest'}"
        sizes += "".join(f", {n} = {size}" for n, size in zip(("val_size", "test_size"), drawn, strict=True) if size)
        raise UserError(
            f"data: {sizes} do not fit: {data.name} has {available} images to split and these need "
            f"{reserved + max(train_size, 1)}; make them smaller"
        )
    if train_size < len(source.classes):
        raise UserError(
            f"data: {train_size} images to train on are fewer than the {len(source.classes)} classes, and each class "
            "needs one; make data.train_size larger, or choose some data.classes"
        )
    if order is None:
        kept, val, test = _by_group(source, draw, data.train_size, *drawn)
    else:
        # First for the largest training split, so that validation and test are the same for every smaller one.
        for front in (available - reserved, train_size):
            order = _with_every_class(order, source.train_labels, front)
        kept, held = order[:train_size], order[available - reserved :]
        val, test = held[: drawn[0]], held[drawn[0] :]
    rows = rows_of(source.train_images)
    held_test = (rows, source.train_labels, test)
    if source.test_images is not None and source.test_labels is not None:
        test = stratified_order(source.test_labels, draw)[: data.test_size]
        held_test = (rows_of(source.test_images), source.test_labels, test)
    held_val = (rows, source.train_labels, val)
    if source.val_images is not None and source.val_labels is not None:
        val = stratified_order(source.val_labels, draw)[: data.val_size]
        held_val = (rows_of(source.val_images), source.val_labels, val)
    kept = kept[_imbalanced(source.train_labels[kept], len(source.classes), data.imbalance)]
    given = torch.from_numpy(source.train_labels[kept])
    said = given if source.said_labels is None else torch.from_numpy(source.said_labels[kept])
    train = TrainingSet(
        images=rows.select(torch.from_numpy(kept)),
        label=with_noise(said, source.classes, data, seed),
        index=torch.from_numpy(kept),
        peak=source.peak,
    )
    rest = None
    if data.fold is not None:
        groups = None if source.groups is None else source.groups[kept]
        inside = torch.from_numpy(_trained_on(train.label.numpy(), groups, data, source.classes, seed))
        rest = Held(*_some(train, ~inside))
        train, given = TrainingSet(*_some(train, inside)), given[inside]
    info = describe(train, source)
    info = info._replace(invariances=source.invariances._replace(**data.declared))
    splits = Splits(train, _held(*held_val, source.peak), _held(*held_test, source.peak), info, given, rest=rest)
    return splits if data.labelled == 1 else _partly_labelled(splits, data.labelled, seed)


def _trained_on(
    label: Labels, groups: Labels | None, data: Data, classes: tuple[str, ...], seed: int
) -> NDArray[np.bool_]:
    """Which of the training images (N,) a fold is trained on.

    Raises:
        UserError: it has none of a class.
    """
    assert data.fold is not None
    fold, count = data.fold
    inside: NDArray[np.bool_] = (fold_of(label, groups, count, seed) == fold) == data.fold_alone
    missing = np.setdiff1d(label, label[inside])
    if len(missing):
        raise UserError(
            f"data.fold = [{fold}, {count}]: no image of class '{classes[missing[0]]}' is left to train on; "
            f"ask for {'fewer' if data.fold_alone else 'other'} folds, or make data.train_size larger"
        )
    return inside


def _some(train: TrainingSet, chosen: Tensor) -> tuple[Rows, Tensor, Tensor, int]:
    """What makes a split of the training images where a mask (N,) holds."""
    at = chosen.nonzero()[:, 0]
    return train.rows.select(at), train.label[at], train.index[at], train.peak


def _partly_labelled(splits: Splits, share: float, seed: int) -> Splits:
    """The splits with most training labels hidden; those that stay are a subset of those of a larger share.

    The labelled images are repeated, so that an epoch is as long as with all labels.

    Raises:
        UserError: no label is hidden.
    """
    train, classes = splits.train, len(splits.info.classes)
    count, label = len(train.label), train.label.numpy()
    order = stratified_order(label, rng.numpy_stream(seed, LABELLED))
    # A class that noise has emptied is in no labelled part either.
    chosen = torch.from_numpy(labelled(_with_every_class(order, label, classes), share, classes))
    hidden = torch.ones(count, dtype=torch.bool)
    hidden[chosen] = False
    if not hidden.any():
        raise UserError(
            f"data.labelled = {share:g} leaves none of the {count} training images without a label; make it smaller, "
            "or leave it out"
        )
    apart = hidden.nonzero()[:, 0]
    unlabelled = Held(train.rows.select(apart), torch.full_like(apart, -1), train.index[apart], train.peak)
    repeated = chosen.repeat(-(-count // len(chosen)))[:count]
    few = TrainingSet(train.rows.select(repeated), train.label[repeated], train.index[repeated], train.peak)
    counts = torch.bincount(train.label[chosen], minlength=classes)
    info = splits.info._replace(train_counts=tuple(counts.tolist()))
    return Splits(few, splits.val, splits.test, info, splits.given[repeated], unlabelled, splits.rest)


def _drawn(key: str, size: int | None, own: Labels | None, what: str) -> int:
    """How many images of a held split are drawn from train: none where the data set has that split.

    Raises:
        UserError: it has, and is smaller than `size`.
    """
    if own is None:
        return size or 0
    if size is not None and size > len(own):
        rest = ", or leave test_size out for all" if key == "test_size" else ""
        raise UserError(f"data.{key} = {size}: the {what} split has {len(own)} images; ask for at most that{rest}")
    return 0


def stratified_order(labels: Labels, draw: np.random.Generator) -> Positions:
    """A random order of all positions in which any prefix holds each class in proportion, to about one.

    Each class is shuffled and laid out evenly over [0, 1) from a random start; the order is that of the
    places. Which class gets the odd image of a prefix is therefore random, too.

    Args:
        labels: (N,), non-negative.
        draw: the generator; the number of draws depends on the labels alone.
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + draw.random()) / len(members)
    return np.argsort(place, kind="stable")


def _by_group(
    source: Source, draw: np.random.Generator, train_size: int | None, *held: int
) -> tuple[Positions, Positions, Positions]:
    """Training, validation and test positions of which no two splits share a group.

    Groups are in a random order, stratified by the class that most of a group's images have. The held splits take from
    its end, each as many groups as fit into its size; the others are for training.

    Raises:
        UserError: not one group fits into a held split, or a class has no image left to train on.
    """
    assert source.groups is not None
    sizes = np.bincount(source.groups)
    classes = np.zeros((len(sizes), len(source.classes)), dtype=np.int64)
    np.add.at(classes, (source.groups, source.train_labels), 1)
    left = list(stratified_order(classes.argmax(1), draw)[::-1])
    parts = []
    for size in held:
        chosen: list[int] = []
        for group in left:
            if sizes[chosen].sum() + sizes[group] <= size:
                chosen.append(group)
        if size and not chosen:
            raise UserError(
                f"data.group: the smallest group left has {sizes[left].min()} images, and a held split of {size} is "
                "asked for; make data.val_size or data.test_size larger"
            )
        left = [group for group in left if group not in chosen]
        parts.append(np.flatnonzero(np.isin(source.groups, chosen)))
    train = np.concatenate([np.flatnonzero(source.groups == group) for group in left[::-1] or [-1]])
    front = len(train) if train_size is None else min(train_size, len(train))
    kept = _with_every_class(train, source.train_labels, front)[:front] if front else train
    missing = set(range(len(source.classes))) - set(source.train_labels[kept].tolist())
    if missing:
        raise UserError(
            f"data.group: no group with class '{source.classes[min(missing)]}' is left to train on; make data.val_size "
            "and data.test_size smaller"
        )
    return kept, parts[0], parts[1]


def _with_every_class(order: Positions, labels: Labels, front: int) -> Positions:
    """The order with an image of every class among the first `front`, which are at least as many as the classes.

    Where a class has none there, its first image takes the place of the last one that is not the first of its class.
    A smaller `front` still gives a subset of a larger one. Nothing moves when no class is missing.
    """
    _, first = np.unique(labels[order], return_index=True)
    missing = first[first >= front]
    if len(missing) == 0:
        return order
    spare = np.setdiff1d(np.arange(front), first)[-len(missing) :]
    changed = order.copy()
    changed[spare], changed[missing] = order[missing], order[spare]
    return changed


def describe(train: TrainingSet, source: Source) -> DataInfo:
    """What tricks may know of the data set.

    Mean and std are those of the first 10,000 training images, and std is at least 0.001.
    """
    rows = train.rows
    mean, std = rows.moments(train.peak)
    counts = torch.bincount(train.label, minlength=len(source.classes))
    return DataInfo(
        classes=source.classes,
        channels=rows.channels,
        size=rows.side,
        mean=mean,
        std=std,
        invariances=source.invariances,
        train_counts=tuple(counts.tolist()),
    )


def _imbalanced(labels: Labels, classes: int, fraction: float) -> Positions:
    """Positions to keep so that class c has n_max * fraction ** (c / (classes - 1)) images, at least one.

    n_max is the size of the largest class. A class that is smaller already keeps all it has.
    """
    counts = np.bincount(labels, minlength=classes)
    profile = counts.max() * fraction ** (np.arange(classes) / (classes - 1))
    quota = np.maximum(np.rint(profile), 1)
    rank = np.empty(len(labels))
    for label, count in enumerate(counts):
        rank[labels == label] = np.arange(count)
    return np.flatnonzero(rank < quota[labels])


def _held(images: Rows, labels: Labels, positions: Positions, peak: int) -> Held:
    positions = np.sort(positions)  # a file is read fastest in order
    return Held(
        images=images.select(torch.from_numpy(positions)),
        label=torch.from_numpy(labels[positions]),
        index=torch.from_numpy(positions),
        peak=peak,
    )
