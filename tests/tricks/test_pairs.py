"""Every two tricks that may be combined train together: a fixed sample always, all of them in the slow suite."""

import hashlib
import itertools
from functools import lru_cache
from pathlib import Path

import pytest

from harness.training.execute import execute
from harness.training.session import Place
from harness.tricks import registry
from harness.tricks.stack import conflicts

SAMPLE, CHUNKS = 100, 10
SLOW_CHUNKS = 50


@lru_cache(maxsize=1)
def compatible_pairs(small):
    """All pairs of built-in tricks without a conflict, in name order."""
    tricks = {name: small(name) for name in sorted(registry.builtin())}
    return [(a, b) for a, b in itertools.combinations(tricks, 2) if not conflicts([tricks[a], tricks[b]])]


def outcome(spec):
    """Status and reason of a training of a few updates."""
    row = execute(spec, "pairs", Place(data_root=Path("unused-by-digits"), check=True)).row
    return row["status"], row["reason"]


def trouble(pairs, small_spec):
    """The pairs that neither train nor are refused with a reason, and why."""
    outcomes = {pair: outcome(small_spec(*pair)) for pair in pairs}
    refused = {pair for pair, (status, why) in outcomes.items() if status == "skipped" and why}
    return {pair: o for pair, o in outcomes.items() if o[0] != "ok" and pair not in refused}


def test_most_pairs_are_compatible_and_the_known_clash_is_not(small):
    pairs = compatible_pairs(small)

    assert len(pairs) > 2000
    assert ("cutmix", "mixup") not in pairs
    assert ("label_smoothing", "mixup") in pairs


def test_nearly_every_trick_acts_alone_on_this_workload(small_spec):
    """Otherwise its pairs would be skipped and prove nothing."""
    outcomes = {name: outcome(small_spec(name)) for name in registry.builtin()}
    idle = {name: o for name, o in outcomes.items() if o[0] != "ok"}

    assert len(idle) <= 0.05 * len(outcomes), idle


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_fixed_sample_of_pairs_trains(chunk, small, small_spec):
    # By hash, so that a new trick replaces few of them.
    sample = sorted(compatible_pairs(small), key=lambda pair: hashlib.sha256("+".join(pair).encode()).digest())[:SAMPLE]
    assert trouble(sample[chunk::CHUNKS], small_spec) == {}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(SLOW_CHUNKS))
def test_all_pairs_train(chunk, small, small_spec):
    assert trouble(compatible_pairs(small)[chunk::SLOW_CHUNKS], small_spec) == {}
