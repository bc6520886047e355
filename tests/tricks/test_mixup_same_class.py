from dataclasses import replace

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import mix
from harness.tricks.mixing.mixup_same_class import MixupSameClass, permute_within


class TestMixupSameClass(TrickConformance):
    trick = MixupSameClass


def labelled(labels):
    batch = tiny_batch(n=len(labels))
    label = torch.tensor(labels)
    return replace(batch, label=label, y=torch.nn.functional.one_hot(label, 10).float())


def test_permutation_by_hand():
    label = torch.tensor([2, 0, 2, 2])
    keys = torch.tensor([0.9, 0.5, 0.1, 0.4])  # in the order of keys, class 2 is 2, 3, 0
    assert permute_within(label, keys).tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("seed", range(5))
def test_is_a_permutation_inside_classes(seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (50,), generator=g)
    partner = permute_within(label, torch.rand(50, generator=g))

    assert partner.sort().values.tolist() == list(range(50))
    assert torch.equal(label[partner], label)


def test_every_member_of_the_class_is_an_equally_likely_partner():
    g, label = torch.Generator().manual_seed(0), torch.tensor([1, 0, 1, 1])
    counts = torch.zeros(4)
    for _ in range(3000):
        counts[permute_within(label, torch.rand(4, generator=g))[0]] += 1
    assert counts[1] == 0
    assert (counts[[0, 2, 3]] / 3000 - 1 / 3).abs().max() < 0.04


def test_targets_stay_and_pixels_lie_between_two_of_the_class():
    batch = labelled([3, 5, 3, 5])
    x = torch.tensor([0.0, 0.25, 1.0, 0.75]).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    batch = replace(batch, x=x)
    run, seen = tiny_run(), set()
    for _ in range(20):
        mixed = MixupSameClass().batch(batch, run)
        assert torch.equal(mixed.y, batch.y)
        values = mixed.x[:, 0, 0, 0]
        torch.testing.assert_close(values[0] + values[2], torch.tensor(1.0))
        assert 0.25 <= values[1] <= 0.75
        seen.add(float(values[0]))
    assert len(seen) > 5


def test_one_class_is_plain_mixup():
    batch = labelled([4] * 6)
    keys = torch.rand(6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(mix(batch.x, permute_within(batch.label, keys), 0.3), mix(batch.x, keys.argsort(), 0.3))


def test_logs_the_share_of_images_without_a_partner():
    run = tiny_run()
    mixed = MixupSameClass().batch(labelled([0, 1, 2, 3]), run)
    total, count = run.logged["mixup_same_class.unmixed"]

    assert (float(total), count) == (1.0, 1)
    torch.testing.assert_close(mixed.x, tiny_batch(n=4).x)
