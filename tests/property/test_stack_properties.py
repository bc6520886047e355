"""What must hold for any set of tricks in any order, for any hyperparameter of a search, and for any batch."""

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.analysis.power import achieved_power, mde, seeds_needed
from harness.experiment import Arm, Model, RunSpec
from harness.testing import tiny_batch, tiny_run, tiny_spec
from harness.training.loop import Clock, train, verify
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import HOOKS, Choice, NotApplicable, Search, overrides
from harness.tricks.stack import Stack, conflicts

few = settings(max_examples=25)
seeds = st.integers(0, 2**32 - 1)


@lru_cache(maxsize=1)
def batch_tricks():
    return tuple(name for name in sorted(registry.builtin()) if overrides(registry.make(name), "batch"))


def compatible(tricks):
    """The tricks without those that clash with an earlier one."""
    kept = []
    for trick in tricks:
        if not conflicts([*kept, trick]):
            kept.append(trick)
    return kept


@st.composite
def searched(draw, name):
    """A trick with every hyperparameter drawn from where a search may look."""
    cls, params = registry.load(name), {}
    for key, field in cls.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Choice):
                params[key] = draw(st.sampled_from(mark))
            elif isinstance(mark, Search):
                values = st.integers if isinstance(mark.low, int) else st.floats
                params[key] = draw(values(mark.low, mark.high))
    return registry.make(name, params)


def ready(tricks, seed, channels):
    """A tiny run on which the tricks' hooks have been called as before training, and their stack."""
    stack, run = Stack(tricks), tiny_run(channels=channels, size=12, seed=seed, augment={})
    run.recipe = stack.fold("recipe", run.recipe, run.data)
    run.train = stack.fold("dataset", run.train, run)
    run.model = stack.fold("model", run.model, run)
    stack.notify("prepare", run)
    stack.notify("epoch_start", run)
    return stack, run


def random_batch(seed, n, channels):
    """Like a batch of the loader, with other labels and pixels for each seed."""
    batch = tiny_batch(n=n, channels=channels, size=12, seed=seed)
    label = batch.label[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
    return replace(batch, label=label, y=torch.eye(10)[label], index=batch.index + seed % 70)


# Order


@few
@given(st.permutations(sorted(registry.builtin())), st.randoms(use_true_random=False))
def test_any_order_of_asking_is_one_run_and_one_stack(order, shuffler):
    tricks = compatible([registry.make(name) for name in order[:8]])
    other = shuffler.sample(tricks, len(tricks))
    arms = [Arm(tricks=tuple(t.spec() for t in asked)) for asked in (tricks, other)]
    first, second = (tiny_spec().model_copy(update={"arm": arm}) for arm in arms)

    assert first.run_id == second.run_id
    for hook in HOOKS:
        called = [[f.__self__.name for f in Stack(ts).hooks(hook)] for ts in (tricks, other)]
        assert called[0] == called[1]


@few
@given(st.data(), seeds)
def test_any_order_of_asking_gives_the_same_batches_to_the_bit(data, seed):
    order = data.draw(st.permutations(batch_tricks()))
    tricks = compatible([registry.make(name) for name in order[:6]])
    out = []
    for asked in (tricks, tricks[::-1]):
        try:
            stack, run = ready(asked, seed % 5, channels=3)
        except NotApplicable:
            assume(False)
        for step in range(2):
            run.step = step
            batch = stack.fold("batch", random_batch(seed + step, 8, 3), run)
        out.append(batch)

    assert torch.equal(out[0].x, out[1].x)
    assert torch.equal(out[0].y, out[1].y)


# Targets


@pytest.mark.parametrize("channels", [1, 3])
@settings(few, max_examples=60)
@given(data=st.data(), seed=seeds, n=st.integers(1, 12))
def test_targets_stay_probabilities_and_labels_stay(channels, data, seed, n):
    names = data.draw(st.lists(st.sampled_from(batch_tricks()), min_size=1, max_size=4, unique=True))
    tricks = compatible([data.draw(searched(name)) for name in names])
    try:
        stack, run = ready(tricks, seed % 5, channels)
    except NotApplicable:
        assume(False)
    for step in range(3):
        run.step = step
        batch = random_batch(seed + step, n, channels)
        changed = stack.fold("batch", batch, run)
        verify(batch, changed)
        assert bool(torch.isfinite(changed.x).all())


# Strength zero


NEUTRAL = {
    "color_jitter_hsv": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
    "copy_paste": {"prob": 0.0},
    "cutmix": {"prob": 0.0},
    "cutout": {"length": 0.0},
    "gaussian_noise_vrm": {"sigma": 0.0},
    "label_smoothing": {"eps": 0.0},
    "mixup": {"prob": 0.0},
    "pgd_training": {"eps": 0.0, "k": 2},
    "random_affine": {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0},
    "random_blur": {"p": 0.0},
    "random_crop": {"pad": 1e-9},
    "random_erasing": {"p": 0.0},
    "random_flip": {"p": 0.0},
    "random_perspective": {"p": 0.0},
    "random_resize": {"low": 1.0, "high": 1.0},
    "random_rotation": {"degrees": 1e-9},
}
"""Hyperparameters with which a batch must come out as it went in."""


@pytest.mark.parametrize("name", NEUTRAL)
@settings(few, max_examples=10)
@given(seed=seeds, n=st.integers(1, 9))
def test_strength_zero_changes_no_batch(name, seed, n):
    batch, run = random_batch(seed, n, 3), tiny_run(channels=3, size=12)
    out = registry.make(name, NEUTRAL[name]).batch(batch, run)

    torch.testing.assert_close(out.x, batch.x, atol=1e-5, rtol=0)
    torch.testing.assert_close(out.y, batch.y, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["mixup", "mixup_input_only", "mixup_multi", "mixup_same_class"])
@settings(few, max_examples=10)
@given(seed=seeds)
def test_mixing_with_alpha_near_zero_leaves_whole_images(name, seed):
    """Beta(alpha, alpha) then has all its mass at zero and one: each image is one of the originals, with its target."""
    batch = random_batch(seed, 8, 1)
    stack, run = ready([registry.make(name, {"alpha": 1e-4})], seed % 5, 1)
    for _ in range(2):
        out = stack.fold("batch", batch, run)
    distance, source = torch.cdist(out.x.flatten(1), batch.x.flatten(1)).min(1)

    assert float(distance.max()) < 1e-3
    if name != "mixup_input_only":
        torch.testing.assert_close(out.y, batch.y[source], atol=1e-3, rtol=0)


INERT = {
    "awp": {"gamma": 1e-9},
    "consistency_reg": {"weight": 1e-9},
    "ema": {"decay": 1e-9},
    "flooding": {"b": 1e-9},
    "focal_loss": {"gamma": 1e-9},
    "memory_bank": {"weight": 1e-9},
    "poly_loss": {"eps": 1e-9},
    "sam": {"rho": 1e-9},
    "seq_regularisation": {"alpha": 1e-9},
    "simcse_aux": {"weight": 1e-9, "p": 0.0},
}
"""Hyperparameters with which a training must be the baseline's, up to rounding; zero itself is refused."""


@lru_cache(maxsize=1)
def baseline_weights():
    return trained(())


def trained(tricks):
    spec = tiny_spec(epochs=2).model_copy(update={"arm": Arm(tricks=tuple(t.spec() for t in tricks))})
    s = set_up(spec, Place(data_root=Path("unused")))
    for _ in train(s.run, s.stack, s.loader, s.step, s.lr_factors, dict, Clock()):
        pass
    named = s.evaluated()[-1].state_dict()
    return {key: value for key, value in named.items() if value.is_floating_point()}


@pytest.mark.parametrize("name", INERT)
def test_strength_zero_trains_the_baseline(name):
    found = trained([registry.make(name, INERT[name])])
    for key, value in baseline_weights().items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=1e-3, msg=key)


# Identity of runs


texts = st.text(st.characters(exclude_categories=("C",)), max_size=5)  # control characters are refused
json_values = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | texts


@few
@given(st.dictionaries(st.text(min_size=1, max_size=5), json_values, max_size=6), st.randoms(use_true_random=False))
def test_run_ids_do_not_depend_on_the_order_of_keys(args, shuffler):
    args = {key: 0 if value is None else value for key, value in args.items()}
    keys = shuffler.sample(list(args), len(args))
    base = tiny_spec(registry.make("mixup"))
    specs = [
        base.model_copy(update={"model": Model(name="timm/resnet10t", args={key: args[key] for key in order})})
        for order in (list(args), keys)
    ]

    assert specs[0].canonical_json == specs[1].canonical_json
    assert RunSpec.model_validate_json(specs[0].canonical_json).run_id == specs[1].run_id
    assert specs[0].model_copy(update={"seed": 1}).run_id != specs[0].run_id


# Power


@few
@given(st.floats(0.01, 20), st.integers(2, 200), st.floats(0.001, 0.2))
def test_more_seeds_find_smaller_effects(sd, n, alpha):
    smallest = mde(sd, n, alpha)

    assert 0 < mde(sd, n + 1, alpha) < smallest < mde(sd * 1.5, n, alpha)
    assert math.isclose(achieved_power(smallest, sd, n, alpha), 0.8, abs_tol=1e-6)
    assert mde(sd, n, alpha / 2) > smallest


@few
@given(st.floats(0.2, 5), st.floats(0.1, 3))
def test_the_needed_seeds_are_the_fewest(effect, sd):
    n = seeds_needed(effect, sd)
    assume(n is not None and n > 2)

    powers = [achieved_power(effect, sd, k) for k in range(n - 1, n + 3)]
    assert powers[0] < 0.8 <= powers[1]
    assert np.all(np.diff(powers) >= -1e-9)
