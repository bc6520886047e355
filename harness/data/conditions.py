"""What `[data]` does to the labels of the training split: wrong ones, and none at all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness import rng
from harness.errors import UserError, did_you_mean
from harness.experiment import Data

LABEL_NOISE, LABELLED, FOLD = "label_noise", "labelled", "fold"
"""Purposes of the streams that draw label noise, the images that keep their labels and folds, so that they never move
the split itself."""


def with_noise(label: Tensor, classes: tuple[str, ...], data: Data, seed: int) -> Tensor:
    """Labels (N,) of which some are wrong.

    "uniform": exactly round(fraction N) are replaced by a wrong class drawn uniformly. "pair": the same images have the
    next class, and those of the last one the first (Han et al. 2018, 1804.06872, figure 2b). "class": of each class
    that `data.label_noise_to` names, exactly round(fraction n) have the class that it becomes (Patrini et al. 2017,
    1609.03683, section 6).

    Raises:
        UserError: `data.label_noise_to` names no class.
    """
    draw = rng.numpy_stream(seed, LABEL_NOISE)
    changed = label.clone()
    if data.label_noise_kind == "class":
        for old, new in _positions(data.label_noise_to or {}, classes):
            own = (label == old).nonzero()[:, 0].numpy()
            changed[draw.permutation(own)[: round(data.label_noise * len(own))]] = new
        return changed
    noisy = np.sort(draw.permutation(len(label))[: round(data.label_noise * len(label))])
    away = draw.integers(1, len(classes), size=len(noisy)) if data.label_noise_kind == "uniform" else 1
    changed[noisy] = (label[noisy] + torch.as_tensor(away)) % len(classes)
    return changed


def _positions(pairs: Mapping[str, str], classes: tuple[str, ...]) -> list[tuple[int, int]]:
    for name in (*pairs, *pairs.values()):
        if name not in classes:
            raise UserError(
                f"data.label_noise_to: '{name}' is no class{did_you_mean(name, classes)} Known: {', '.join(classes)}"
            )
    return sorted((classes.index(old), classes.index(new)) for old, new in pairs.items())


def labelled(order: NDArray[np.int64], share: float, classes: int) -> NDArray[np.int64]:
    """The positions that keep their labels, ascending: the first round(share N) of a stratified order.

    Args:
        order: (N,), with an image of every class among the first ones.
        share: in (0, 1]; at least as many as classes are kept.
        classes: how many there are.
    """
    return np.sort(order[: max(classes, round(share * len(order)))])


def fold_of(labels: NDArray[np.int64], groups: NDArray[np.int64] | None, count: int, seed: int) -> NDArray[np.int64]:
    """The fold (N,) of each image, from 0.

    Images in a random order are sorted by class and dealt out in turn, so each fold has its share of every class to
    within one image, and the folds differ in size by one at most. Where images have groups, groups are dealt out
    instead, each as an image of the class that most of its images have.

    Args:
        labels: (N,), as they are trained on.
        groups: (N,), or None.
        count: how many folds.
        seed: of the run.

    Raises:
        UserError: there are fewer images, or groups, than folds.
    """
    units, unit = np.unique(np.arange(len(labels)) if groups is None else groups, return_inverse=True)
    if len(units) < count:
        what = "images" if groups is None else "groups of images"
        raise UserError(f"data.fold = [.., {count}]: training has {len(units)} {what}; ask for at most so many folds")
    classes = np.zeros((len(units), labels.max() + 1), dtype=np.int64)
    np.add.at(classes, (unit, labels), 1)
    drawn = rng.numpy_stream(seed, FOLD).permutation(len(units))
    dealt = drawn[np.argsort(classes.argmax(1)[drawn], kind="stable")]
    fold = np.empty(len(units), dtype=np.int64)
    fold[dealt] = np.arange(len(units)) % count
    return fold[unit]
