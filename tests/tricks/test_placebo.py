import torch

from harness.rng import AUGMENT, INIT, ORDER, SPLIT
from harness.testing import TrickConformance, tiny_run
from harness.tricks.control.placebo import Placebo


class TestPlacebo(TrickConformance):
    trick = Placebo


def draws(seed_of, purpose):
    run = tiny_run(seed=3)
    run.seed_of = seed_of
    return torch.rand(4, generator=run.rng(purpose))


def test_redraws_every_block_stream_but_the_split():
    def own(seed, purpose):
        return seed

    for purpose in (INIT, ORDER, AUGMENT):
        assert not torch.equal(draws(Placebo().stream_seed, purpose), draws(own, purpose))
    for purpose in (SPLIT, "mixup"):
        assert torch.equal(draws(Placebo().stream_seed, purpose), draws(own, purpose))


def test_different_seeds_stay_different():
    seeds = [Placebo().stream_seed(seed, INIT) for seed in range(100)]

    assert len(set(seeds)) == 100
    assert not set(seeds) & set(range(100))


def test_stored_runs_have_these_streams():
    """Another number would be as good, but stored rows would no longer be those of their version."""
    assert [Placebo().stream_seed(7, purpose) for purpose in (INIT, ORDER, AUGMENT, SPLIT)] == [1_000_010] * 3 + [7]
