"""Every two tricks that may be combined train together: a fixed sample always, all of them in the slow suite."""

import hashlib
import itertools
from functools import lru_cache
from pathlib import Path

import pytest

from harness.experiment import Arm, Data
from harness.testing import tiny_spec
from harness.training.execute import execute
from harness.training.session import Place
from harness.tricks import registry
from harness.tricks.stack import conflicts

SMALL = {
    # Values with which the tricks act in a training of four updates on 40 grey digits.
    "batch_size": {"size": 10},
    "gradual_unfreezing": {"groups_per_epoch": 2},
    "lr_range_test": {"steps": 20},
    "lr_warmup": {"epochs": 0.5},
    "memory_bank": {"start": 0.0},
    "pgd_training": {"k": 2},
    "pseudo_label": {"threshold": 0.1},
    "random_crop": {"mode": "reflect"},
    "random_flip": {"force": True},
    "snapshot_ensemble": {"cycles": 2},
    "step_decay": {"milestones": (0.3, 0.6)},
    "warmup_cosine": {"epochs": 0.5},
}
"""Everything else has its defaults."""

SAMPLE, CHUNKS = 100, 10
SLOW_CHUNKS = 50


def small(name):
    return registry.make(name, SMALL.get(name))


@lru_cache(maxsize=1)
def compatible_pairs():
    """All pairs of built-in tricks without a conflict, in name order."""
    tricks = {name: small(name) for name in sorted(registry.builtin())}
    return [(a, b) for a, b in itertools.combinations(tricks, 2) if not conflicts([tricks[a], tricks[b]])]


def outcome(*names):
    """Status and reason of a training of four updates with these tricks."""
    # Imbalanced classes and weight decay, so that the tricks which correct for them act.
    spec = tiny_spec(epochs=2, batch_size=20, weight_decay=1e-3).model_copy(
        update={
            "data": Data(name="digits", train_size=60, val_size=20, test_size=20, imbalance=0.5),
            "arm": Arm(tricks=tuple(small(name).spec() for name in names)),
        }
    )
    row = execute(spec, "pairs", Place(data_root=Path("unused-by-digits"), check=True)).row
    return row["status"], row["reason"]


def trouble(pairs):
    """The pairs that neither train nor are refused with a reason, and why."""
    outcomes = {pair: outcome(*pair) for pair in pairs}
    refused = {pair for pair, (status, why) in outcomes.items() if status == "skipped" and why}
    return {pair: o for pair, o in outcomes.items() if o[0] != "ok" and pair not in refused}


def test_most_pairs_are_compatible_and_the_known_clash_is_not():
    pairs = compatible_pairs()

    assert len(pairs) > 2000
    assert ("cutmix", "mixup") not in pairs
    assert ("label_smoothing", "mixup") in pairs


def test_nearly_every_trick_acts_alone_on_this_workload():
    """Otherwise its pairs would be skipped and prove nothing."""
    outcomes = {name: outcome(name) for name in registry.builtin()}
    idle = {name: o for name, o in outcomes.items() if o[0] != "ok"}

    assert len(idle) <= 0.05 * len(outcomes), idle


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_fixed_sample_of_pairs_trains(chunk):
    # By hash, so that a new trick replaces few of them.
    sample = sorted(compatible_pairs(), key=lambda pair: hashlib.sha256("+".join(pair).encode()).digest())[:SAMPLE]
    assert trouble(sample[chunk::CHUNKS]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(SLOW_CHUNKS))
def test_all_pairs_train(chunk):
    assert trouble(compatible_pairs()[chunk::SLOW_CHUNKS]) == {}
