from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import AutoAugment as Vision
from torchvision.transforms.v2 import AutoAugmentPolicy

from draws import assert_share
from harness.data.types import DIGITS, PHOTOS
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks import policies
from harness.tricks.augment.autoaugment import POLICIES, AutoAugment, applied, outcomes
from harness.tricks.operations import OPERATIONS, one_each


class TestAutoAugment(TrickConformance):
    trick = AutoAugment


def run_on(bears=PHOTOS, size=8, channels=3):
    return tiny_run(info=tiny_info(channels=channels, size=size)._replace(invariances=bears), channels=channels)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_torchvisions(name):
    def plain(step):
        operation, p, strength = step
        return operation.lower(), p, strength or 0

    theirs = Vision(AutoAugmentPolicy(name))._policies
    ours = [tuple((o.replace("_", ""), p, m) for o, p, m in pair) for pair in POLICIES[name]]
    assert ours == [tuple(map(plain, pair)) for pair in theirs]


@pytest.mark.parametrize(
    ("bears", "size", "policy"), [(DIGITS, 8, "svhn"), (PHOTOS, 64, "cifar10"), (PHOTOS, 65, "imagenet")]
)
def test_the_policy_is_that_of_the_nearest_data(bears, size, policy):
    assert AutoAugment().pairs(run_on(bears, size)) == POLICIES[policy]
    assert AutoAugment(policy="cifar10").pairs(run_on(bears, size)) == POLICIES["cifar10"]


def test_both_steps_are_drawn_by_themselves_and_in_order():
    first, second = ("invert", 0.3, 0), ("posterize", 0.8, 9)
    chances = dict(outcomes(first, second))
    assert sum(chances.values()) == pytest.approx(1)
    assert sum(c for steps, c in chances.items() if first in steps) == pytest.approx(0.3)
    assert sum(c for steps, c in chances.items() if second in steps) == pytest.approx(0.8)
    assert chances[(first, second)] == pytest.approx(0.24)

    x = tiny_batch(3, channels=3).x
    out = applied(policies.AUTO, torch.Generator(), (first, second), x)
    by_hand = OPERATIONS["posterize"].change(1 - x, torch.full((3,), 4.0))
    assert torch.equal(out, by_hand)


def test_each_pair_is_drawn_by_its_chance():
    """Marks in place of operations: hundreds for the pair, ones and twos for its steps."""
    host, g = np.random.default_rng(0), torch.Generator().manual_seed(0)
    pairs = POLICIES["svhn"]
    marks, chances = [], []
    for i, (first, second) in enumerate(pairs):
        for steps, chance in outcomes(first, second):
            mark = 100.0 * i + (steps[:1] == (first,)) + 2 * (steps[-1:] == (second,))
            marks.append(partial(torch.add, other=mark))
            chances.append(chance / len(pairs))
    found = torch.cat([one_each(torch.zeros(500, 1, 1, 1), marks, host, g, chances).flatten() for _ in range(20)])

    for i, ((_, p, _), (_, q, _)) in enumerate(pairs):
        own = found[found // 100 == i] % 100
        assert_share(found // 100 == i, 1 / 25)
        if i not in (4, 9):  # pairs of the table that stand there twice differ by place alone
            assert_share(own % 2 == 1, p)
            assert_share(own >= 2, q)


def test_strengths_are_ninths_of_the_scale():
    x = torch.zeros(64, 3, 9, 9)
    x[..., 4, 8] = 1.0
    out = applied({"rotate": policies.Scale(0.0, 90.0, signed=True)}, torch.Generator(), (("rotate", 1.0, 9),), x)
    assert set(out[:, 0].flatten(1).argmax(1).tolist()) == {4, 76}
    still = applied({"rotate": policies.Scale(0.0, 90.0, signed=True)}, torch.Generator(), (("rotate", 1.0, 0),), x)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)


def test_a_step_that_may_not_act_is_left_out():
    x = tiny_batch(3).x
    out = applied(
        {"invert": policies.STILL}, torch.Generator(), (("color", 1.0, 9), ("invert", 1.0, 0)), x
    )  # fmt: skip
    assert torch.equal(out, 1 - x)
