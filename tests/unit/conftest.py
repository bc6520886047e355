"""A stored study whose runs have predictions, made without training."""

import cProfile
import pstats
from datetime import timedelta

import numpy as np
import pytest
import torch

from harness.store.schema import METRICS
from harness.testing import (
    CREATED,
    StoredRun,
    make_arm,
    make_curve,
    make_manifest,
    make_row,
    make_study,
    tiny_spec,
)
from harness.training.evaluate import metrics


def store_study(folder, tricks=("mixup", "placebo"), seeds=5, images=80, classes=4):
    """Arms that share what is hard about the images of a seed; `mixup` is less sure, `erm_baseline` the baseline."""
    labels = ("baseline", *tricks)
    arms = [make_arm(label, run_ids={s: f"{i:08x}{s:08x}" for s in range(seeds)}) for i, label in enumerate(labels)]
    spec = tiny_spec(epochs=3).canonical_json

    def run(arm, seed):
        of_seed, of_arm = np.random.default_rng(seed), np.random.default_rng([seed, labels.index(arm.label)])
        label = of_seed.integers(0, classes, images)
        noise = of_seed.normal(size=(images, classes))
        if arm.label not in ("baseline", "erm_baseline"):
            noise = noise + 0.5 * of_arm.normal(size=(images, classes))
        logits = (2 * np.eye(classes)[label] + noise).astype(np.float32) * (0.5 if arm.label == "mixup" else 1.5)
        logits = logits.astype(np.float16).astype(np.float32)
        found = metrics(torch.from_numpy(logits), torch.from_numpy(label))
        finished = CREATED + timedelta(seconds=seed * len(labels) + labels.index(arm.label))
        row = make_row(
            arm, seed, spec=spec, finished=finished, test_digest=str(logits.sum()), epochs_done=3, steps=30,
            **{f"{split}_{metric}": found[metric] for split in ("val", "test") for metric in METRICS},
        )  # fmt: skip
        curve = {
            "train.loss": [1 / e for e in (1, 2, 3)],
            "val.accuracy": [found["accuracy"] * e / 3 for e in (1, 2, 3)],
            "val.nll": [found["nll"] * 3 / e for e in (1, 2, 3)],
        }
        order = of_arm.permutation(images)  # rows come in any order
        return StoredRun(row, make_curve(row, curve), (order + 1000, label[order], logits[order]))

    return make_study(folder, make_manifest(arms, seeds, study=folder.name), run, merged=False)


@pytest.fixture(scope="session")
def stored_study():
    return store_study


@pytest.fixture(scope="session")
def counted():
    """Call a function; gives what it returns and how many calls of functions that took: work that no clock measures."""

    def count(function):
        profile = cProfile.Profile()
        found = profile.runcall(function)
        return found, pstats.Stats(profile).total_calls

    return count
